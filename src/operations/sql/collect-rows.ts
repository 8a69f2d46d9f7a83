import type { Column, StreamHandlers, TextRow } from '../../engines/postgres/sql/stream-statement.ts';

/** Portions in which rows are fetched: enough for speed, few enough for wide rows. */
const BATCH_ROWS = 200;
/** After so many rows that nobody sees, a query that only reads is not asked for more. */
const COUNTED_ROWS = 100_000;

/** Takes the first rows of a result, and counts the rest. */
export interface RowCollector extends StreamHandlers {
  readonly kept: readonly TextRow[];
  hidden(): { readonly rows: number; readonly atLeast: boolean };
}

/**
 * @param keep so many rows are kept
 * @param stops whether the query may be left where it is once nobody wants more: not when it changes something on the way
 * @param onRows given rows at once instead of keeping them
 */
export function collectRows(options: {
  readonly keep: number;
  readonly stops: boolean;
  readonly onRows?: (rows: readonly TextRow[], columns: readonly Column[]) => Promise<void>;
}): RowCollector {
  const kept: TextRow[] = [];
  let taken = 0;
  let hiddenRows = 0;
  let stopped = false;
  return {
    batchRows: BATCH_ROWS,
    kept,
    hidden: () => ({ rows: hiddenRows, atLeast: stopped }),
    async onRows(rows, of) {
      const wanted = rows.slice(0, Math.max(0, options.keep - taken));
      taken += wanted.length;
      hiddenRows += rows.length - wanted.length;
      if (wanted.length > 0 && options.onRows) await options.onRows(wanted, of);
      else kept.push(...wanted);
      stopped = options.stops && hiddenRows >= COUNTED_ROWS;
      return !stopped;
    },
  };
}
