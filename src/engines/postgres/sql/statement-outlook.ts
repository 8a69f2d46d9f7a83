import { queryRows, type Session } from '../connection.ts';
import { quoteIdentifier } from '../connection-errors.ts';
import type { RowChange, RowOperation } from './row-changes.ts';
import { isTree, type TableName, treesOf } from './sql-tree.ts';

/** A table that a statement names, as the server knows it. */
export interface ResolvedTable {
  readonly oid: string;
  /** `public.users`. */
  readonly table: string;
  readonly kind: string;
}

/** What the catalogs say will happen beside a change of rows. */
export interface SideEffects {
  /** Names of triggers that fire, with their table. */
  readonly triggers: readonly { readonly table: string; readonly trigger: string }[];
  /** Tables that a foreign key takes along. */
  readonly cascades: readonly { readonly table: string; readonly action: CascadeAction }[];
  readonly rules: readonly string[];
}

export type CascadeAction = 'delete' | 'update' | 'set null' | 'set default' | 'truncate';

export interface RowEstimate {
  readonly operation: string;
  readonly table: string;
  readonly rows: number;
}

/** The table behind a name, by the session's search path; null when there is none. */
export async function resolveTable(session: Session, name: TableName): Promise<ResolvedTable | null> {
  const quoted = [name.schema, name.name].filter(part => part !== null).map(quoteIdentifier);
  const [row] = await queryRows<ResolvedTable>(session, 'look up a table', {
    text: `select c.oid::pg_catalog.text as oid, n.nspname || '.' || c.relname as table, c.relkind as kind
           from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
           where c.oid = pg_catalog.to_regclass($1)`,
    values: [quoted.join('.')],
  });
  return row ?? null;
}

/** Bits of pg_trigger.tgtype. @source PostgreSQL, src/include/catalog/pg_trigger.h */
const triggerBits: Readonly<Record<RowOperation, number>> = {
  insert: 4,
  copy: 4,
  delete: 8,
  update: 16,
  merge: 4 + 8 + 16,
  truncate: 32,
};

const triggersSql = `
  select n.nspname || '.' || c.relname as table, t.tgname as trigger
  from pg_catalog.pg_trigger t
  join pg_catalog.pg_class c on c.oid = t.tgrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where not t.tgisinternal and t.tgenabled <> 'D' and t.tgtype::pg_catalog.int4 & $2 <> 0 and t.tgrelid = $1
  order by 1, 2`;

/** Foreign keys down from a table; only a CASCADE leads further. Those of partitions stand for themselves in their parent's. */
const cascadesSql = `
  with recursive down as (
    select k.conrelid, case $2 when 'u' then k.confupdtype when 't' then 't' else k.confdeltype end as action,
           array[k.confrelid, k.conrelid] as path
    from pg_catalog.pg_constraint k
    where k.contype = 'f' and k.confrelid = $1 and k.conparentid = 0
    union all
    select k.conrelid, case $2 when 'u' then k.confupdtype when 't' then 't' else k.confdeltype end,
           d.path || k.conrelid
    from down d
    join pg_catalog.pg_constraint k on k.confrelid = d.conrelid
    where k.contype = 'f' and k.conparentid = 0 and d.action in ('c', 't') and k.conrelid <> all (d.path)
  )
  select distinct n.nspname || '.' || c.relname as table, d.action
  from down d
  join pg_catalog.pg_class c on c.oid = d.conrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where d.action in ('c', 'n', 'd', 't')
  order by 1, 2`;

const rulesSql = `
  select r.rulename as rule from pg_catalog.pg_rewrite r
  where r.ev_class = $1 and r.rulename <> '_RETURN' and r.ev_enabled <> 'D' order by 1`;

/** Triggers, foreign keys and rules that take part in a change. @throws as queryRows */
export async function readSideEffects(
  session: Session,
  { operation }: RowChange,
  { oid }: ResolvedTable,
): Promise<SideEffects> {
  const triggers = await queryRows<{ table: string; trigger: string }>(session, 'look up triggers', {
    text: triggersSql,
    values: [oid, triggerBits[operation]],
  });
  const direction = { delete: 'd', update: 'u', truncate: 't', merge: 'd', insert: null, copy: null }[
    operation
  ];
  const found =
    direction === null
      ? []
      : await queryRows<{ table: string; action: string }>(session, 'look up foreign keys', {
          text: cascadesSql,
          values: [oid, direction],
        });
  const cascades = found.map(({ table, action }) => ({ table, action: actionOf(action, direction) }));
  const rules = await queryRows<{ rule: string }>(session, 'look up rules', {
    text: rulesSql,
    values: [oid],
  });
  return { triggers, cascades, rules: rules.map(({ rule }) => rule) };
}

function actionOf(letter: string, direction: string | null): CascadeAction {
  if (letter === 't') return 'truncate';
  if (letter === 'n') return 'set null';
  if (letter === 'd') return 'set default';
  return direction === 'u' ? 'update' : 'delete';
}

/** The columns of a table's primary key, in its order; none without one, and for a user who may not read it. */
export async function readKeyColumns(session: Session, { oid }: ResolvedTable): Promise<readonly string[]> {
  const rows = await queryRows<{ name: string }>(session, 'look up the key', {
    text: `select a.attname as name
           from pg_catalog.pg_index i
           cross join pg_catalog.unnest(i.indkey::pg_catalog.int2[]) with ordinality k(attnum, place)
           join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
           where i.indrelid = $1 and i.indisprimary and pg_catalog.has_table_privilege(i.indrelid, 'select')
           order by k.place`,
    values: [oid],
  });
  return rows.map(({ name }) => name);
}

/**
 * The rows that the planner expects each part of a statement to change. EXPLAIN without ANALYZE runs nothing.
 * @throws as queryRows
 */
export async function estimateRows(session: Session, text: string): Promise<readonly RowEstimate[]> {
  const rows = await queryRows<{ 'QUERY PLAN': unknown }>(session, 'estimate a statement', {
    text: `EXPLAIN (VERBOSE, FORMAT JSON) ${text}`,
  });
  const plans = treesOf(rows[0]?.['QUERY PLAN']);
  return plans.flatMap(each => (isTree(each) ? estimatesIn(each['Plan']) : []));
}

function estimatesIn(plan: unknown): readonly RowEstimate[] {
  if (!isTree(plan)) return [];
  const parts = treesOf(plan['Plans']);
  const below = parts.flatMap(estimatesIn);
  if (plan['Node Type'] !== 'ModifyTable') return below;
  const source = parts.find(
    each => isTree(each) && /^(Outer|Member)$/.test(String(each['Parent Relationship'])),
  );
  const rows = isTree(source) ? Number(source['Plan Rows'] ?? 0) : 0;
  const schema = typeof plan['Schema'] === 'string' ? `${plan['Schema']}.` : '';
  const own = {
    operation: String(plan['Operation']),
    table: `${schema}${String(plan['Relation Name'] ?? '')}`,
    rows,
  };
  return [own, ...below];
}
