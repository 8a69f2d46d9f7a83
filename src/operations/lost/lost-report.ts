import type { RestoredPart } from '../side/plan-files.ts';
import type { LostAct } from '../timeline/account-of-loss.ts';

/** What became of the lost rows of one table. */
export interface LostTable {
  readonly database: string;
  /** Null where no catalog knows its name. */
  readonly schema: string | null;
  readonly table: string;
  readonly inserted: number;
  readonly updated: number;
  readonly deleted: number;
  /** Came and went in between: nothing is left of them. */
  readonly gone: number;
  /** Changed again what the disaster had changed. */
  readonly onTop: number;
  /** Of those that were inserted, updated or deleted: they could not be read. */
  readonly unread: number;
}

/** What is lost between a recovery target and the end, and where it was written to. */
export interface LostReport {
  readonly dryRun: boolean;
  readonly instance: string;
  readonly timeline: number;
  /** Everything that was committed here or later is lost. */
  readonly from: string;
  readonly to: string;
  /** The transactions of the disaster: what they did is not exported. */
  readonly excluded: readonly { readonly xid: number; readonly committedAt: string }[];
  readonly transactions: number;
  readonly firstAt: string | null;
  readonly lastAt: string | null;
  /** Those with the most rows first. */
  readonly tables: readonly LostTable[];
  /** Tables that were dropped, truncated or rewritten; not exported. Null: not counted. */
  readonly acts: readonly LostAct[] | null;
  /** What is restored of a backup to read the rows from; null where nothing is lost. */
  readonly restored: RestoredPart | null;
  readonly files: readonly { readonly path: string; readonly rows: number }[];
  /** Updates that left every value as it was: no statement is needed. Null before. */
  readonly unchanged: number | null;
  readonly seconds: number;
  /** What needs attention: exit code 3. */
  readonly problems: readonly string[];
}
