import { queryRow, queryRows, type Session } from '../../engines/postgres/connection.ts';
import { copyRowsTo, startCopyIn } from '../../engines/postgres/copy-pipe.ts';
import type { RowPosition } from '../../engines/postgres/row-positions.ts';
import {
  copyInSql,
  copyOutSql,
  createStagingSql,
  type RowFate,
} from '../../engines/postgres/undo-statements.ts';
import { type MatchedTable, positionsOf } from './match-tables.ts';
import type { RowSource } from './row-source.ts';

/** Rows that were gathered beside their table. */
export interface StagedTable {
  readonly table: MatchedTable;
  readonly rows: number;
  /** Pages of the staging table, for ranges of it. */
  readonly pages: number;
}

/** Positions in one statement: a quarter of a megabyte of text. */
const POSITIONS_AT_ONCE = 20_000;

/**
 * Copies the rows that a transaction destroyed out of the source and into a temporary table beside the live one, in the order
 * of the source. Nothing of them is held here.
 */
export async function stageRows(
  source: RowSource,
  live: Session,
  table: MatchedTable,
  options: { readonly signal: AbortSignal; readonly onRows: (rows: number) => void },
): Promise<StagedTable> {
  const { signal } = options;
  const doing = `gather the rows of ${table.source.schema}.${table.source.name}`;
  await queryRows(live, doing, { text: createStagingSql(table), signal });
  // Of many positions the planner thinks that reading everything is cheaper, for every batch of them anew.
  await queryRows(source.session, doing, {
    text: `set local enable_seqscan = ${table.rows === null ? 'on' : 'off'}`,
    signal,
  });
  const target = await startCopyIn(live, doing, copyInSql(table));
  let rows = 0;
  try {
    for (const { fate, positions } of readings(table)) {
      const text = copyOutSql(table, fate, positions);
      const copied = await copyRowsTo(source.session, { doing, text, signal }, target);
      rows += copied;
      options.onRows(copied);
    }
  } catch (error) {
    await target.abandon();
    throw error;
  }
  await target.finish();
  await queryRows(live, doing, { text: `analyze ${table.staging}`, signal });
  const { pages } = await queryRow<{ pages: number }>(live, doing, {
    text: `select (pg_relation_size($1::regclass) / current_setting('block_size')::int)::int as pages`,
    values: [table.staging],
    signal,
  });
  return { table, rows, pages };
}

/** How many rows will be looked for; null where only the source knows. */
export function expectedRows({ rows }: MatchedTable): number | null {
  if (rows === null) return null;
  return [...positionsOf(rows).values()].reduce((sum, each) => sum + each.size, 0);
}

function* readings(
  table: MatchedTable,
): Generator<{ readonly fate: RowFate; readonly positions: readonly RowPosition[] | null }> {
  if (table.rows === null) {
    yield { fate: 'd', positions: null };
    return;
  }
  for (const [fate, all] of positionsOf(table.rows)) {
    // What nothing can be matched with need not be fetched.
    if (table.key === null && fate !== 'd') continue;
    for (const positions of all.batches(POSITIONS_AT_ONCE)) yield { fate, positions };
  }
}
