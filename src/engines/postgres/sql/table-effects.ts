import { queryRows, type Session } from '../connection.ts';

/** What is known of a table inside a transaction, to be compared with what it is later in the same one. */
interface TableState {
  readonly oid: string;
  readonly schema: string;
  readonly name: string;
  readonly kind: string;
  readonly persistence: string;
  readonly filenode: string;
  readonly inserted: string;
  readonly updated: string;
  readonly deleted: string;
}

/** All tables of the database, or only those with changed rows, by their oid. */
export interface TableStates {
  readonly scope: EffectScope;
  readonly states: ReadonlyMap<string, TableState>;
}

/** `rows` where only rows can have changed; `objects` where tables may have been created, emptied or dropped. */
export type EffectScope = 'rows' | 'objects';

/** What a statement did to one table. */
export interface TableEffect {
  readonly oid: string;
  /** `public.users`. */
  readonly table: string;
  readonly inserted: number;
  readonly updated: number;
  readonly deleted: number;
  /** What happened to the table as a whole. */
  readonly whole: 'created' | 'dropped' | 'emptied' | 'rewritten' | null;
  /** Rows that went with the table; null where none did, or they were not counted. */
  readonly lostRows: number | null;
  /** `lostRows` is the server's estimate: counting took too long. */
  readonly isEstimate: boolean;
  /** Nobody else sees a temporary table. */
  readonly isTemporary: boolean;
}

/**
 * The counters of the transaction that runs, subtransactions included. They may start above zero, with what the
 * server has not yet passed on from earlier ones: only the difference of two looks in one transaction counts.
 *
 * @source PostgreSQL manual, "The Cumulative Statistics System", pg_stat_xact_all_tables
 */
const statesSql = `
  select c.oid::pg_catalog.text as oid, n.nspname as schema, c.relname as name, c.relkind as kind,
         c.relpersistence as persistence, c.relfilenode::pg_catalog.text as filenode,
         pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid) as inserted,
         pg_catalog.pg_stat_get_xact_tuples_updated(c.oid) as updated,
         pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid) as deleted
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'm')
    and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
    and n.nspname not like 'pg\\_toast\\_temp\\_%'
    and ($1 or pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid) + pg_catalog.pg_stat_get_xact_tuples_updated(c.oid)
               + pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid) > 0)`;

/** Looks at the tables inside the transaction that runs. @throws as queryRows */
export async function readTableStates(session: Session, scope: EffectScope): Promise<TableStates> {
  const rows = await queryRows<TableState>(session, 'look at the tables', {
    text: statesSql,
    values: [scope === 'objects'],
  });
  return { scope, states: new Map(rows.map(row => [row.oid, row])) };
}

/** What happened since an earlier look in the same transaction, most rows first. @throws as queryRows */
export async function readTableEffects(
  session: Session,
  before: TableStates,
): Promise<readonly TableEffect[]> {
  const after = await readTableStates(session, before.scope);
  const rewritten = [...after.states.values()].filter(state => {
    const old = before.states.get(state.oid);
    return old !== undefined && old.filenode !== state.filenode;
  });
  const empty = await emptyAmong(session, before.scope === 'objects' ? rewritten : []);
  const effects: TableEffect[] = [];
  for (const state of after.states.values()) {
    const old = before.states.get(state.oid);
    const effect = effectOf(state, old, wholeOf(state, old, { scope: before.scope, empty }));
    if (effect !== null) effects.push(effect);
  }
  if (before.scope === 'objects') {
    for (const old of before.states.values()) {
      if (after.states.has(old.oid)) continue;
      effects.push({ ...nothing(old), whole: 'dropped' });
    }
  }
  return effects.sort((a, b) => changedRows(b) - changedRows(a) || (a.table < b.table ? -1 : 1));
}

/** All rows that were inserted, updated or deleted. */
export function changedRows({ inserted, updated, deleted }: TableEffect): number {
  return inserted + updated + deleted;
}

function wholeOf(
  state: TableState,
  old: TableState | undefined,
  { scope, empty }: { readonly scope: EffectScope; readonly empty: ReadonlySet<string> },
): TableEffect['whole'] {
  if (scope === 'rows') return null;
  if (old === undefined) return 'created';
  if (old.filenode === state.filenode) return null;
  return empty.has(state.oid) ? 'emptied' : 'rewritten';
}

function effectOf(
  state: TableState,
  old: TableState | undefined,
  whole: TableEffect['whole'],
): TableEffect | null {
  // A TRUNCATE takes back what the same transaction had counted before: less than nothing is nothing.
  const since = (name: 'inserted' | 'updated' | 'deleted'): number =>
    Math.max(0, Number(state[name]) - Number(old?.[name] ?? 0));
  const effect = {
    ...nothing(state),
    inserted: since('inserted'),
    updated: since('updated'),
    deleted: since('deleted'),
    whole,
  };
  return whole === null && changedRows(effect) === 0 ? null : effect;
}

function nothing(state: TableState): TableEffect {
  return {
    oid: state.oid,
    table: `${state.schema}.${state.name}`,
    inserted: 0,
    updated: 0,
    deleted: 0,
    whole: null,
    lostRows: null,
    isEstimate: false,
    isTemporary: state.persistence === 't',
  };
}

async function emptyAmong(session: Session, tables: readonly TableState[]): Promise<ReadonlySet<string>> {
  if (tables.length === 0) return new Set();
  const rows = await queryRows<{ oid: string }>(session, 'look at the size of tables', {
    text: `select o::pg_catalog.text as oid from pg_catalog.unnest($1::pg_catalog.oid[]) o
           where pg_catalog.pg_relation_size(o::pg_catalog.regclass) = 0`,
    values: [tables.map(({ oid }) => oid)],
  });
  return new Set(rows.map(({ oid }) => oid));
}
