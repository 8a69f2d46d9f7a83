import type { PageSet } from './change-map-pages.ts';
import type { RecordPart, SegmentSummary } from './segment-summary.ts';
import type { RelationTable, RowCounts, TransactionPart } from './segment-summary-parts.ts';

export const SUMMARY_VERSION = 1;
export const ENDED = ['segment end', 'unwritten', 'stale', 'damaged'] as const;

/** In the column of flags of the transactions that ended. */
export const PART_IS_REMARKABLE = 1;
export const PART_HAS_SUBTRANSACTIONS = 2;

/** What a summary says beside its lists. Positions `…At` are bytes from its start, -1 where there is none. */
export interface SummaryFacts {
  readonly timeline: number;
  readonly lsn: bigint;
  readonly lengthBytes: number;
  readonly segmentSize: number;
  readonly majorVersion: SegmentSummary['majorVersion'];
  readonly systemIdentifier: string;
  readonly ended: SegmentSummary['ended'];
  readonly verified: boolean;
  readonly recordCount: number;
  readonly firstRecordAt: number;
  readonly lastRecordAt: number;
  /** 0 where it is not known. */
  readonly previousRecordLsn: bigint;
  /** The record that is cut by the end. */
  readonly cutRecordAt: number;
  /** The first record that says that no transaction was running: the server had started anew. */
  readonly resetAt: number;
  readonly folded: Folded;
  readonly head: RecordPart | null;
  readonly tail: RecordPart | null;
}

/**
 * Which transactions are only counted: those below so many rows with nothing remarkable about them, whose xids are all
 * later than those of the first so many that ended. Of these it is certain that they began in what was read, unless more
 * ran at once than that.
 */
export interface FoldRule {
  readonly belowRows: number;
  readonly behind: number;
}

export const FOLD_RULE: FoldRule = { belowRows: 100, behind: 1000 };

export interface Folded {
  /** How many transactions are only counted. */
  readonly count: number;
  /** The latest xid of those in front of them. */
  readonly behindXid: number;
}

/** Whether an xid was given out later than another, of xids less than half of all apart. */
export function isLaterXid(xid: number, other: number): boolean {
  return ((xid - other) | 0) > 0;
}

export interface KeptRecord {
  readonly at: number;
  readonly endAt: number;
  readonly bytes: Uint8Array;
}

/** A lock on a relation, of a transaction: what tells whose a relation is that was created before it had an xid. */
export interface RelationLock {
  readonly xid: number;
  readonly database: number;
  readonly file: number;
}

export interface Second {
  commits: number;
  aborts: number;
  readonly rows: RowCounts;
}

export interface SummaryContent {
  readonly facts: SummaryFacts;
  readonly relations: RelationTable;
  /** Records that are kept as they are, in the order of the log: events, and changes of files. */
  readonly kept: readonly KeptRecord[];
  readonly orphans: readonly number[];
  readonly locks: readonly RelationLock[];
  readonly open: readonly TransactionPart[];
  readonly ended: readonly TransactionPart[];
  readonly seconds: ReadonlyMap<number, Second>;
  /** The fork of relation `n` and kind `f` is number `4 * n + f`. */
  readonly pages: PageSet;
}
