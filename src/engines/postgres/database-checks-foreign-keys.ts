import type pg from 'pg';
import { queryRows } from './connection.ts';
import { quoteIdentifier } from './connection-errors.ts';
import { ask, checkObject, type Session } from './database-checks-run.ts';

interface Column {
  readonly column: string;
  readonly referenced: string;
  /** The operator that compares them, as `OPERATOR(pg_catalog.=)` takes it. */
  readonly operator: string;
  /** Of the referenced column, where the two differ: that one's rules decide. */
  readonly collation: string | null;
}

export interface ForeignKey {
  readonly name: string;
  readonly table: string;
  readonly referencedTable: string;
  /** A partitioned table means all its partitions; any other means itself, without tables that inherit from it. */
  readonly tableIsPartitioned: boolean;
  readonly referencedIsPartitioned: boolean;
  /** MATCH FULL: the columns are all null or none is. Otherwise one null is enough to refer to nothing. */
  readonly matchFull: boolean;
  readonly columns: readonly Column[];
}

/**
 * Looks for rows that refer to a row that is not there, for every foreign key that the server believes to hold. Triggers
 * keep foreign keys, so no checksum and no structure shows where they were broken.
 */
export async function checkForeignKeys(session: Session): Promise<void> {
  const keys = await ask<ForeignKey>(session, 'list the foreign keys', { text: foreignKeysSql('true') });
  session.result.total += keys.length;
  for (const key of keys) {
    await checkObject(session, `${key.table} (${key.name})`, async run => {
      const [row] = await run<{ orphans: string }>({ text: orphansSql(key) });
      const orphans = Number(row?.orphans ?? 0);
      return orphans === 0
        ? []
        : [`${orphans} ${orphans === 1 ? 'row refers' : 'rows refer'} to nothing in ${key.referencedTable}`];
    });
  }
}

/** Those from or to some tables, or tables that these are partitions of. */
export async function listForeignKeys(
  client: pg.Client,
  tables: readonly number[],
  signal: AbortSignal,
): Promise<ForeignKey[]> {
  const concerned = `(with recursive up(oid) as (
      select unnest($1::int8[]::oid[]) union select i.inhparent from pg_inherits i join up on i.inhrelid = up.oid)
    select oid from up)`;
  return await queryRows<ForeignKey>(client, 'list the foreign keys', {
    text: foreignKeysSql(`(k.conrelid in ${concerned} or k.confrelid in ${concerned})`),
    values: [tables],
    signal,
  });
}

/**
 * Constraints of partitions are parts of their parent's, which is checked as a whole. Keys over periods compare by
 * ranges, and are the one kind that is not looked at. Small tables first.
 * @source catalog/pg_constraint.h
 */
const foreignKeysSql = (condition: string): string => `
  select quote_ident(k.conname) as name,
         format('%I.%I', fn.nspname, f.relname) as table, format('%I.%I', pn.nspname, p.relname) as "referencedTable",
         f.relkind = 'p' as "tableIsPartitioned", p.relkind = 'p' as "referencedIsPartitioned",
         k.confmatchtype = 'f' as "matchFull",
         (select json_agg(json_build_object(
                   'column', fa.attname, 'referenced', pa.attname,
                   'operator', quote_ident(opn.nspname) || '.' || o.oprname,
                   'collation', case when pa.attcollation <> fa.attcollation and pa.attcollation <> 0
                                     then (select format('%I.%I', cn.nspname, c.collname) from pg_collation c
                                             join pg_namespace cn on cn.oid = c.collnamespace
                                           where c.oid = pa.attcollation) end) order by u.position)
          from unnest(k.conkey, k.confkey, k.conpfeqop) with ordinality u(fk, pk, op, position)
            join pg_attribute fa on fa.attrelid = k.conrelid and fa.attnum = u.fk
            join pg_attribute pa on pa.attrelid = k.confrelid and pa.attnum = u.pk
            join pg_operator o on o.oid = u.op join pg_namespace opn on opn.oid = o.oprnamespace) as columns
  from pg_constraint k
    join pg_class f on f.oid = k.conrelid join pg_namespace fn on fn.oid = f.relnamespace
    join pg_class p on p.oid = k.confrelid join pg_namespace pn on pn.oid = p.relnamespace
  where k.contype = 'f' and k.convalidated and k.conparentid = 0
    and f.relpersistence = 'p' and p.relpersistence = 'p'
    and not coalesce((to_json(k)->>'conperiod')::boolean, false)
    and ${condition}
  order by pg_total_relation_size(f.oid) + pg_total_relation_size(p.oid), k.oid`;

/** The query that the server itself uses when a foreign key is added. @source ri_triggers.c, RI_Initial_Check */
export function orphansSql(key: ForeignKey): string {
  const from = `${key.tableIsPartitioned ? '' : 'only '}${key.table} f`;
  const joined = `${key.referencedIsPartitioned ? '' : 'only '}${key.referencedTable} p`;
  const equal = key.columns.map(({ column, referenced, operator, collation }) => {
    const side = `f.${quoteIdentifier(column)}${collation === null ? '' : ` collate ${collation}`}`;
    return `p.${quoteIdentifier(referenced)} operator(${operator}) ${side}`;
  });
  const present = key.columns.map(({ column }) => `f.${quoteIdentifier(column)} is not null`);
  const missing = `p.${quoteIdentifier(key.columns[0]!.referenced)} is null`;
  const refers = `(${present.join(key.matchFull ? ' or ' : ' and ')})`;
  return `select count(*)::text as orphans from ${from} left join ${joined} on (${equal.join(' and ')}) where ${missing} and ${refers}`;
}
