import { formatCount } from '../base/sizes.ts';
import type { Incident, IncidentAct } from '../operations/incident/incident.ts';
import type { Allowance, GuardPolicy, WatchSettings } from './watch-settings.ts';

/** A table as the rules know it; where rows of partitions are counted, the partitioned table with the rows of them all. */
export interface RuledTable {
  readonly database: string;
  readonly schema: string;
  readonly table: string;
  /** Names that it has beside its own in patterns: of a partition the whole, of the whole a partition. */
  readonly also: { readonly schema: string; readonly table: string } | null;
  /** An estimate; null where there is none. */
  readonly rows: number | null;
}

/** Who does it, as far as that is known. */
export interface RuledActor {
  readonly role: string | null;
  readonly application: string | null;
}

export interface Finding {
  readonly table: RuledTable;
  readonly act: Exclude<IncidentAct, 'rate'>;
  /** Deleted or updated; null where a table is lost as a whole. */
  readonly rows: number | null;
}

export interface Verdict {
  readonly rule: Incident['rule'];
  readonly policy: GuardPolicy;
}

/** From here on it is next to all of a table. */
const NEARLY_ALL = 0.9;
/** So many times what is usual for a table is not usual. */
const USUAL_FACTOR = 3;

/** Tables that tools make to drop them. @source pg_repack: its schema; the copy with the old rows is dropped at its end */
const OWN_TABLES_OF_TOOLS = ['repack.*'];

/**
 * How many rows of this table are one too many; infinite where the table is not watched. `usual`: the most that one
 * transaction changes in it as a rule, see the baseline.
 */
export function rowLimit(
  settings: WatchSettings,
  subject: { readonly table: RuledTable; readonly actor: RuledActor | null; readonly usualRows: number },
): { readonly rows: number; readonly rule: 'rows' | 'share'; readonly limit: number } {
  const { table, actor, usualRows } = subject;
  const own = limitsOf(settings, table, actor);
  const usual = usualRows * USUAL_FACTOR;
  const rows = Math.max(own.rows, usual);
  const byShare =
    own.share === null || table.rows === null || table.rows < settings.shareRows
      ? Number.POSITIVE_INFINITY
      : Math.max(settings.shareRows, Math.ceil(table.rows * own.share), Math.min(usual, table.rows));
  return byShare < rows
    ? { rows: byShare, rule: 'share', limit: own.share ?? 1 }
    : { rows, rule: 'rows', limit: rows };
}

/** What is to be done about a finding; null when it is nobody's alarm. */
export function judge(
  settings: WatchSettings,
  finding: Finding,
  circumstances: {
    readonly actor: RuledActor | null;
    readonly usualRows: number;
    readonly at: Date;
  },
): Verdict | null {
  const { actor, at } = circumstances;
  if (isAllowed(settings, finding.table, { actor, at })) return null;
  const { policy } = limitsOf(settings, finding.table, actor);
  const rule =
    finding.rows === null ? lostRule(settings, finding) : countedRule(settings, finding, circumstances);
  return rule === null ? null : { rule, policy };
}

/** Whether the configuration says that this is nobody's alarm. What is not known of the actor is not allowed. */
export function isAllowed(
  settings: WatchSettings,
  table: RuledTable,
  { actor, at }: { readonly actor: RuledActor | null; readonly at: Date },
): boolean {
  if (OWN_TABLES_OF_TOOLS.some(pattern => isTable(pattern, table))) return true;
  const minute = at.getUTCHours() * 60 + at.getUTCMinutes();
  return settings.allow.some(
    ({ tables, roles, applications, between }) =>
      (tables.length === 0 || tables.some(pattern => isTable(pattern, table))) &&
      (roles.length === 0 || isAnyOf(roles, actor?.role ?? null)) &&
      (applications.length === 0 || isAnyOf(applications, actor?.application ?? null)) &&
      (between === null || isWithin(between, minute)),
  );
}

function countedRule(
  settings: WatchSettings,
  { table, act, rows }: Finding,
  circumstances: { readonly actor: RuledActor | null; readonly usualRows: number },
): Incident['rule'] | null {
  const reached = rows ?? 0;
  const limit = rowLimit(settings, { table, ...circumstances });
  if (reached < limit.rows) return null;
  const share = shareOf(reached, table.rows);
  const part = share === null ? '' : `, ${percent(share)} of about ${formatCount(table.rows ?? 0)}`;
  const allowed =
    limit.rule === 'share'
      ? `${percent(limit.limit)} of a table in one transaction`
      : `${formatCount(limit.limit)} rows in one transaction`;
  return {
    name: limit.rule,
    explanation: `${formatCount(reached)} rows of ${nameOf(table)} ${act}d${part}; the limit is ${allowed}`,
    confidence: share !== null && share >= NEARLY_ALL ? 'certain' : 'likely',
  };
}

function lostRule(settings: WatchSettings, { table, act }: Finding): Incident['rule'] | null {
  if ((table.rows ?? 0) < settings.lostTableRows) return null;
  const done = act === 'truncate' ? 'truncated' : 'dropped';
  return {
    name: act,
    explanation: `${nameOf(table)} with about ${formatCount(table.rows ?? 0)} rows was ${done}; the limit is ${formatCount(settings.lostTableRows)} rows`,
    confidence: 'certain',
  };
}

function limitsOf(
  settings: WatchSettings,
  table: RuledTable,
  actor: RuledActor | null,
): { readonly rows: number; readonly share: number | null; readonly policy: GuardPolicy } {
  const forTable = settings.tables.find(each => isTable(each.table, table));
  const forRole = settings.roles.find(each => actor?.role != null && isLike(each.role, actor.role));
  // What is said of a table is nearer than what is said of whoever changes it.
  const share = forTable?.share !== undefined ? forTable.share : forRole?.share;
  return {
    rows: forTable?.rows ?? forRole?.rows ?? settings.rows,
    share: share === undefined ? settings.share : share,
    policy: forTable?.policy ?? forRole?.policy ?? settings.policy,
  };
}

function isTable(pattern: string, { database, schema, table, also }: RuledTable): boolean {
  const names = [{ schema, table }, ...(also === null ? [] : [also])];
  return names
    .flatMap(each => [each.table, `${each.schema}.${each.table}`, `${database}.${each.schema}.${each.table}`])
    .some(name => isLike(pattern, name));
}

function isAnyOf(patterns: readonly string[], name: string | null): boolean {
  return name !== null && patterns.some(pattern => isLike(pattern, name));
}

/** `*` stands for any characters. */
function isLike(pattern: string, name: string): boolean {
  const literal = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${pattern.split('*').map(literal).join('.*')}$`, 's').test(name);
}

function isWithin(between: NonNullable<Allowance['between']>, minute: number): boolean {
  const { fromMinute, toMinute } = between;
  return fromMinute <= toMinute
    ? minute >= fromMinute && minute < toMinute
    : minute >= fromMinute || minute < toMinute;
}

function shareOf(rows: number, before: number | null): number | null {
  return before === null || before <= 0 ? null : Math.min(1, rows / before);
}

function percent(share: number): string {
  return `${(share * 100).toFixed(share >= 0.1 ? 0 : 1)} %`;
}

function nameOf({ schema, table }: RuledTable): string {
  return schema === '' ? table : `${schema}.${table}`;
}
