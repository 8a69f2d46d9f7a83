import type pg from 'pg';
import { AppError } from '../../base/errors.ts';
import { queryRow } from './connection.ts';
import type { DatabaseFacts } from './server-facts.ts';

/** Counts over all databases, for people. */
export interface DatabaseTotals {
  readonly sizeBytes: number;
  readonly tables: number;
  readonly indexes: number;
  /** The planner's estimate, so it may be stale; tables never analysed count as empty. */
  readonly estimatedRows: number;
  /** Databases that could not be looked into, with the reason. Their size is counted where it is known. */
  readonly skipped: readonly { readonly database: string; readonly reason: string }[];
}

/** Tables and indexes of users: what the system catalogs and their TOAST tables are made of does not count. */
const totalsSql = `
  select count(*) filter (where c.relkind in ('r', 'm'))::float8 as tables,
         count(*) filter (where c.relkind = 'i')::float8 as indexes,
         coalesce(sum(greatest(c.reltuples, 0)) filter (where c.relkind in ('r', 'm')), 0)::float8 as rows
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and n.nspname not like 'pg\\_temp\\_%'`;

/**
 * Counts tables, indexes and rows over all databases that allow connections. A database that cannot be connected to is
 * named in the answer and does not end it.
 *
 * @throws DATABASE_FAILED; the signal's reason when cancelled
 */
export async function readDatabaseTotals(
  connect: (database: string) => Promise<pg.Client>,
  databases: readonly DatabaseFacts[],
  signal?: AbortSignal,
): Promise<DatabaseTotals> {
  const totals = { sizeBytes: 0, tables: 0, indexes: 0, estimatedRows: 0 };
  const skipped: { database: string; reason: string }[] = [];
  for (const database of databases) {
    totals.sizeBytes += database.sizeBytes ?? 0;
    if (!database.allowConnections) continue;
    try {
      const counts = await countIn(database.name, connect, signal);
      totals.tables += counts.tables;
      totals.indexes += counts.indexes;
      totals.estimatedRows += counts.rows;
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      skipped.push({ database: database.name, reason: error.message });
    }
  }
  return { ...totals, skipped };
}

async function countIn(
  database: string,
  connect: (database: string) => Promise<pg.Client>,
  signal: AbortSignal | undefined,
): Promise<{ tables: number; indexes: number; rows: number }> {
  const client = await connect(database);
  try {
    return await queryRow(client, `count the tables of database '${database}'`, {
      text: totalsSql,
      ...(signal === undefined ? {} : { signal }),
    });
  } finally {
    await client.end();
  }
}
