import { ask, checkObject, type Session } from './database-checks-run.ts';

export interface TableRows {
  readonly database: string;
  /** Schema and name, quoted as SQL takes them. */
  readonly table: string;
  readonly rows: number;
}

interface Table {
  readonly name: string;
  readonly size: string;
}

/**
 * Counts the rows of the database's tables, each of which is read from its first page to its last: of all when they are
 * few, otherwise of the largest and of a random choice. Those that were not to be counted do not count as left.
 */
export async function countRows(session: Session, sampledTables: number): Promise<TableRows[]> {
  const tables = await ask<Table>(session, 'list the tables', {
    text: `select format('%I.%I', n.nspname, c.relname) as name, pg_relation_size(c.oid)::text as size
           from pg_class c join pg_namespace n on n.oid = c.relnamespace
           where c.relkind in ('r', 'm') and c.relpersistence = 'p' and (c.relkind = 'r' or c.relispopulated)
             and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\\_%'
           order by pg_relation_size(c.oid) desc, c.oid`,
  });
  const counted: TableRows[] = [];
  const chosen = sample(tables, sampledTables);
  session.result.total += chosen.length;
  for (const { name } of chosen) {
    await checkObject(session, name, async run => {
      const [row] = await run<{ rows: string }>({ text: `select count(*)::text as rows from only ${name}` });
      counted.push({ database: session.database, table: name, rows: Number(row?.rows) });
      return [];
    });
  }
  return counted;
}

/** The largest half and a random half of the rest, the smaller first: they are done soon. */
function sample(tables: readonly Table[], limit: number): Table[] {
  if (tables.length <= limit) return tables.toReversed();
  const largest = tables.slice(0, Math.ceil(limit / 2));
  const rest = tables.slice(largest.length);
  const chosen: Table[] = [];
  while (chosen.length < limit - largest.length) {
    chosen.push(...rest.splice(Math.floor(Math.random() * rest.length), 1));
  }
  return [...chosen, ...largest.toReversed()].sort((a, b) => Number(a.size) - Number(b.size));
}
