import type { Column } from '../../engines/postgres/sql/stream-statement.ts';
import { changedRows, type TableEffect } from '../../engines/postgres/sql/table-effects.ts';

/**
 * What became of a statement. `done`: it changes nothing that could be committed, or cannot be taken back; `open`: it is part of
 * the user's transaction, which is not ended yet.
 */
export type Outcome = 'done' | 'committed' | 'open' | 'rolled back' | 'dry run';

/** What one statement did. */
export interface StatementReport {
  readonly command: string;
  readonly outcome: Outcome;
  /** The server's own word: `DELETE 5`. */
  readonly tag: string | null;
  /** Null for a statement without rows. */
  readonly columns: readonly Column[] | null;
  /** Rows of its result that were read. */
  readonly resultRows: number;
  /** Rows that were not shown; `atLeast` when counting them was given up. */
  readonly hidden: { readonly rows: number; readonly atLeast: boolean };
  readonly tables: readonly TableEffect[];
  /** Changed rows that count against the limit: not those of temporary tables and of tables it made itself. */
  readonly changedRows: number;
  /** Keys of some of the rows it changes. */
  readonly sampleKeys: readonly string[];
  /** Why it was confirmed, or would have to be; empty where nothing asks for it. */
  readonly reasons: readonly string[];
  /** The transaction that changed something. */
  readonly xid: string | null;
  /** Null where nothing was committed that had to be confirmed. */
  readonly recovery: Recovery | null;
  readonly seconds: number;
}

/** Where the way back to before a statement begins. */
export interface Recovery {
  readonly xid: string;
  /** Where the log was before it. */
  readonly lsn: string | null;
}

/** The rows that count against the limit. */
export function countChangedRows(tables: readonly TableEffect[], tagRows: number): number {
  const counted = tables.filter(({ isTemporary, whole }) => !isTemporary && whole !== 'created');
  const sum = (list: readonly TableEffect[]): number =>
    list.reduce((rows, each) => rows + changedRows(each), 0);
  // What no table has counted was changed all the same: in a foreign table, or where counting is off.
  return sum(counted) + Math.max(0, tagRows - sum(tables));
}

/** Whether two runs of a statement did the same. */
export function isSameEffect(a: StatementReport, b: StatementReport): boolean {
  const read = ({ tag, tables }: StatementReport): string =>
    JSON.stringify([
      tag,
      tables
        .map(({ table, inserted, updated, deleted, whole }) => [table, inserted, updated, deleted, whole])
        .sort(),
    ]);
  return read(a) === read(b);
}
