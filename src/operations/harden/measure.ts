import type { GuardFacts, RecordedChange } from '../../engines/postgres/guard-facts.ts';
import { GUARD_SCHEMA } from '../../engines/postgres/guard-objects.ts';
import { quoteLiteral } from '../../engines/postgres/write-controls.ts';

export const measureNames = [
  'mass-write',
  'destructive-ddl',
  'read-only-role',
  'statement-timeout',
  'audit-logging',
] as const;
export type MeasureName = (typeof measureNames)[number];

/**
 * `in force`: all of it is there. `partly`: some is missing, or was changed by somebody since. `off`: none of it is.
 * `not possible`: none of it is, and this user or this server cannot have it.
 */
export type MeasureState = 'in force' | 'partly' | 'off' | 'not possible';

export const logStatements = ['ddl', 'mod'] as const;

/** What somebody has chosen; null: as it is on record, else the default. */
export interface HardenSettings {
  /** The most rows that one statement may change. */
  readonly rows: number | null;
  /** Names as they were typed. */
  readonly tables: 'all' | readonly string[] | null;
  readonly statementTimeoutSeconds: number | null;
  readonly idleTimeoutSeconds: number | null;
  readonly lockTimeoutSeconds: number | null;
  readonly logStatement: (typeof logStatements)[number] | null;
}

/** What is known of a measure, read from the database itself. */
export interface MeasureReading {
  /** How much of it is there. */
  readonly present: number;
  /** What is not there, or not as it was made. */
  readonly missing: readonly string[];
  /** Why what is missing cannot be had; null when it can. */
  readonly blocked: string | null;
  /** What is left out, and why. */
  readonly notes: readonly string[];
}

/** What has to be done; all lists are empty when nothing has to be. */
export interface MeasureWork {
  /** Statements that lock no table, for the one transaction that begins the work. */
  readonly statements: readonly string[];
  /** What a table needs, by its quoted name: a transaction for each. */
  readonly tables: ReadonlyMap<string, readonly string[]>;
  /** Single statements that cannot be in a transaction with others. */
  readonly apart: readonly { readonly title: string; readonly sql: string }[];
  /** For the last transaction, if all else was done. */
  readonly afterwards: readonly string[];
  /** What cannot be done: told, and the exit code is 3. */
  readonly problems: readonly string[];
}

export interface Measure {
  readonly name: MeasureName;
  readonly title: string;
  readonly prevents: string;
  readonly costs: string;
  readonly limits: readonly string[];
  /** The numbers it is applied with, for people; left out where there are none. */
  choices?(facts: GuardFacts, settings: HardenSettings): string;
  read(facts: GuardFacts, settings: HardenSettings): MeasureReading;
  apply(facts: GuardFacts, settings: HardenSettings): MeasureWork;
  revert(facts: GuardFacts): MeasureWork;
}

export const noSettings: HardenSettings = {
  rows: null,
  tables: null,
  statementTimeoutSeconds: null,
  idleTimeoutSeconds: null,
  lockTimeoutSeconds: null,
  logStatement: null,
};

export const noWork: MeasureWork = {
  statements: [],
  tables: new Map(),
  apart: [],
  afterwards: [],
  problems: [],
};

export function hasWork(work: MeasureWork): boolean {
  const { statements, tables, apart, afterwards } = work;
  return statements.length + tables.size + apart.length + afterwards.length > 0;
}

/** An option that was chosen when a measure was applied. */
export function recordedOption(facts: GuardFacts, measure: MeasureName, option: string): unknown {
  return facts.measures.find(({ name }) => name === measure)?.options[option] ?? null;
}

/**
 * Puts on record that a measure is applied, in the transaction that does it or committed before it; [] when all of that is on
 * record already.
 *
 * @param changes those that are new, or have another value: what is known of others stays
 */
export function recordMeasureSql(
  facts: GuardFacts,
  measure: MeasureName,
  what: {
    readonly options: Readonly<Record<string, unknown>>;
    readonly changes?: readonly Omit<RecordedChange, 'measure'>[];
  },
): string[] {
  const { options, changes = [] } = what;
  const known = facts.measures.find(({ name }) => name === measure);
  const same = Object.entries(options).every(
    ([key, value]) => JSON.stringify(known?.options[key]) === JSON.stringify(value),
  );
  if (known !== undefined && same && changes.length === 0) return [];
  const before = facts.changes.filter(
    change =>
      change.measure === measure &&
      !changes.some(({ role, name }) => role === change.role && name === change.name),
  );
  const all = [...before, ...changes].map(
    ({ kind, role, name, before: was, since }) =>
      ` ${JSON.stringify({ kind, role, name, before: was, since })}`,
  );
  const list = all.length === 0 ? '[]' : `[\n${all.join(',\n')}]`;
  const values = [measure, JSON.stringify(options), list].map(quoteLiteral);
  return [`select ${GUARD_SCHEMA}.record(${values.join(', ')});`];
}

export function forgetMeasureSql(facts: GuardFacts, measure: MeasureName): string[] {
  const known = facts.measures.some(({ name }) => name === measure);
  return known ? [`${forgetting}${quoteLiteral(measure)}, null, null);`] : [];
}

const forgetting = `select ${GUARD_SCHEMA}.record(`;

/** Whether work takes its measure off the record. */
export function forgets({ statements, afterwards }: MeasureWork): boolean {
  return [...statements, ...afterwards].some(sql => sql.startsWith(forgetting));
}
