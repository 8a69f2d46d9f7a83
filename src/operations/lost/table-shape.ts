import { queryRows, type Session } from '../../engines/postgres/connection.ts';
import type { RelationFile } from '../../engines/postgres/wal-transactions.ts';

/** What a table is like at a moment, as far as its rows are read and written again. */
export interface TableShape {
  readonly database: string;
  readonly schema: string;
  readonly table: string;
  /** Quoted where it must be: `public."Users"`. */
  readonly name: string;
  /** In their order, without generated ones. */
  readonly columns: readonly string[];
  /** The same, quoted where they must be. */
  readonly quoted: readonly string[];
  /** The columns that name a row, by their indices, with what compares them; null: nothing does. */
  readonly key: readonly KeyColumn[] | null;
}

export interface KeyColumn {
  readonly index: number;
  /** `=`, or `OPERATOR(public.=)` of a type whose own is in no schema that is always looked into. */
  readonly operator: string;
}

interface ShapeRow {
  kind: string;
  schema: string;
  table: string;
  name: string;
  columns: string[];
  quoted: string[];
  key: KeyColumn[] | null;
}

/** Reads what a file's table is like now; null: no relation has this file. `other`: it is no table, as TOAST relations. */
export async function readShape(
  client: Session,
  relation: RelationFile,
  signal: AbortSignal,
): Promise<TableShape | 'other' | null> {
  const [row] = await queryRows<ShapeRow>(client, 'read what a table is like', {
    text: shapeSql,
    values: [relation.tablespace, relation.file],
    signal,
  });
  if (row === undefined) return null;
  const { kind, ...shape } = row;
  return kind === 'r' ? { database: client.database ?? '', ...shape } : 'other';
}

// The primary key, else the unique index with the fewest columns, all of them never null.
const shapeSql = `
  with named as (
    select c.oid, n.nspname, c.relname, c.relkind from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = pg_filenode_relation($1, $2)
  ),
  listed as (
    select a.attnum, a.attname, row_number() over (order by a.attnum) - 1 as place
    from named join pg_attribute a on a.attrelid = named.oid
    where a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
  ),
  keys as (
    select i.indexrelid, i.indisprimary, count(*) as columns,
           json_agg(json_build_object('index', l.place, 'operator', case when opn.nspname <> 'pg_catalog'
             then format('OPERATOR(%I.%s)', opn.nspname, o.oprname) else '=' end) order by k.place) as parts
    from named join pg_index i on i.indrelid = named.oid
    cross join unnest(i.indkey::int2[], i.indclass::oid[]) with ordinality k(attnum, opclass, place)
    left join pg_opclass oc on oc.oid = k.opclass
    left join pg_amop ao on ao.amopfamily = oc.opcfamily and ao.amoplefttype = oc.opcintype
                        and ao.amoprighttype = oc.opcintype and ao.amopstrategy = 3
                        and ao.amopmethod = (select oid from pg_am where amname = 'btree')
    left join pg_operator o on o.oid = ao.amopopr
    left join pg_namespace opn on opn.oid = o.oprnamespace
    left join listed l on l.attnum = k.attnum
    left join pg_attribute a on a.attrelid = named.oid and a.attnum = k.attnum
    where i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null and k.place <= i.indnkeyatts
    group by i.indexrelid, i.indisprimary
    having bool_and(l.place is not null and a.attnotnull)
  )
  select relkind::text as kind, nspname::text as schema, relname::text as table, format('%I.%I', nspname, relname) as name,
         coalesce((select array_agg(attname::text order by attnum) from listed), '{}') as columns,
         coalesce((select array_agg(quote_ident(attname) order by attnum) from listed), '{}') as quoted,
         (select parts from keys order by indisprimary desc, columns, indexrelid limit 1) as key
  from named`;
