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
  /** Indices of the columns that name a row; null: nothing does. */
  readonly key: readonly number[] | null;
}

interface ShapeRow {
  kind: string;
  schema: string;
  table: string;
  name: string;
  columns: string[];
  quoted: string[];
  key: number[] | null;
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
    select i.indexrelid, i.indisprimary, array_agg(l.place::int order by k.place) as places
    from named join pg_index i on i.indrelid = named.oid
    cross join unnest(i.indkey::int2[]) with ordinality k(attnum, place)
    left join listed l on l.attnum = k.attnum
    left join pg_attribute a on a.attrelid = named.oid and a.attnum = k.attnum
    where i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null and k.place <= i.indnkeyatts
    group by i.indexrelid, i.indisprimary
    having bool_and(l.place is not null and a.attnotnull)
  )
  select relkind::text as kind, nspname::text as schema, relname::text as table, format('%I.%I', nspname, relname) as name,
         coalesce((select array_agg(attname::text order by attnum) from listed), '{}') as columns,
         coalesce((select array_agg(quote_ident(attname) order by attnum) from listed), '{}') as quoted,
         (select places from keys order by indisprimary desc, cardinality(places), indexrelid limit 1) as key
  from named`;
