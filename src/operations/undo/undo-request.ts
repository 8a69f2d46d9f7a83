import type { RunOptions } from '../instance-context.ts';
import type { DescribedChange } from '../timeline/described-change.ts';
import type { UndoReport } from './undo-report.ts';

/** The transaction to undo. */
export type UndoWhat =
  /** An id, the end of one, or `latest`. */
  | { readonly kind: 'incident'; readonly id: string }
  /** Its number, lower 32 bits. */
  | { readonly kind: 'xid'; readonly xid: number }
  | { readonly kind: 'change'; readonly change: DescribedChange };

export interface UndoRequest {
  readonly what: UndoWhat;
  /** Names as people write them, with or without their schema; null: all tables. */
  readonly tables: readonly string[] | null;
  /** Where the rows come from; `auto`: the held snapshot where there is one, else a backup. */
  readonly from: 'auto' | 'snapshot' | 'backup';
  /** Where a side instance is restored; null: beside the data directory. */
  readonly scratch: string | null;
  /** Rows that are put back in one transaction. */
  readonly batchRows: number;
  readonly dryRun: boolean;
}

export interface UndoOptions extends RunOptions {
  /** Asked before anything is changed, with what was found. Throws to refuse. */
  readonly confirm: (found: UndoReport) => Promise<void>;
}
