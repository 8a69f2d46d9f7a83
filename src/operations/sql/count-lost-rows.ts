import { queryRows, type Session } from '../../engines/postgres/connection.ts';
import type { TableEffect } from '../../engines/postgres/sql/table-effects.ts';
import { createScope } from './scope.ts';

/** Counting takes no longer than this for each table; then the server's own estimate is told. */
const COUNT_AT_MOST_MS = 5000;
const MOST_TABLES = 20;

/** Says how many rows tables have that a statement would drop or empty. It was taken back, so they are still there. */
export async function countLostRows(
  session: Session,
  tables: readonly TableEffect[],
): Promise<readonly TableEffect[]> {
  const counted: TableEffect[] = [];
  for (const [index, effect] of tables.entries()) {
    const lost = effect.whole === 'dropped' || effect.whole === 'emptied';
    counted.push(
      lost && index < MOST_TABLES ? { ...effect, ...(await countOf(session, effect.oid)) } : effect,
    );
  }
  return counted;
}

async function countOf(session: Session, oid: string): Promise<Pick<TableEffect, 'lostRows' | 'isEstimate'>> {
  const scope = createScope(session, { readOnly: true });
  await scope.open();
  try {
    const [table] = await queryRows<{ name: string; about: string; isParent: boolean }>(
      session,
      'look up a table',
      {
        text: `select pg_catalog.format('%I.%I', n.nspname, c.relname) as name, c.reltuples::pg_catalog.int8 as about,
                    c.relkind = 'p' as "isParent"
             from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = $1`,
        values: [oid],
      },
    );
    // The rows of a partitioned table are those of its partitions, which are in the list themselves.
    if (table === undefined || table.isParent) return { lostRows: null, isEstimate: false };
    const about = Math.max(0, Number(table.about));
    return await exactCount(session, table.name).catch(() => ({ lostRows: about, isEstimate: true }));
  } finally {
    await scope.undo();
  }
}

async function exactCount(
  session: Session,
  name: string,
): Promise<Pick<TableEffect, 'lostRows' | 'isEstimate'>> {
  await queryRows(session, 'bound the counting', {
    text: `set local statement_timeout = ${COUNT_AT_MOST_MS}`,
  });
  const rows = await queryRows<{ rows: string }>(session, 'count rows', {
    text: `select pg_catalog.count(*) as rows from only ${name}`,
  });
  return { lostRows: Number(rows[0]?.rows ?? 0), isEstimate: false };
}
