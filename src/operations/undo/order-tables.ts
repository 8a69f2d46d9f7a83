import { queryRows, type Session } from '../../engines/postgres/connection.ts';
import type { WeighedTable } from './weigh-rows.ts';

/** Tables that others refer to come before these, as far as they do not refer to each other in a circle. */
export async function orderTables(
  live: Session,
  tables: readonly WeighedTable[],
  signal: AbortSignal,
): Promise<readonly WeighedTable[]> {
  const oids = tables.map(each => each.staged.table.live.oid);
  const links = await queryRows<{ from: number; to: number }>(live, 'order the tables', {
    text: `select distinct conrelid::int8::float8 as from, confrelid::int8::float8 as to from pg_constraint
           where contype = 'f' and conrelid <> confrelid
             and conrelid = any($1::int8[]::oid[]) and confrelid = any($1::int8[]::oid[])`,
    values: [oids],
    signal,
  });
  const ordered: WeighedTable[] = [];
  const seen = new Set<number>();
  const add = (oid: number): void => {
    if (seen.has(oid)) return;
    seen.add(oid);
    for (const link of links) if (link.from === oid) add(link.to);
    ordered.push(...tables.filter(each => each.staged.table.live.oid === oid));
  };
  for (const oid of oids) add(oid);
  return ordered;
}
