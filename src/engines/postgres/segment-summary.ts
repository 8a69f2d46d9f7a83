import type { WalEvent } from './wal-events.ts';
import type { PostgresMajorVersion } from './wal-pages.ts';
import type { WalEnd } from './wal-reader.ts';
import type { StorageEvent } from './wal-storage.ts';
import type { RelationFile } from './wal-transactions.ts';

/** Rows of one relation that were changed. TOAST tables and catalogs are relations of their own. */
export interface RelationRows {
  readonly relation: RelationFile;
  readonly inserted: number;
  readonly updated: number;
  readonly deleted: number;
}

/** One transaction, with the subtransactions that ended with it. */
export interface TransactionSummary {
  /** The lower 32 bits. */
  readonly xid: number;
  /** Where its first record starts, as far as the log read reaches. */
  readonly firstLsn: bigint;
  /**
   * Where the record starts that committed or aborted it (of one that is only prepared: that prepared it). Null while it
   * is open, and where a crash ended it.
   */
  readonly endLsn: bigint | null;
  /** The end of that record: a recovery to it, exclusive, includes the transaction. */
  readonly recordEndLsn: bigint | null;
  /**
   * `prepare`: prepared and not ended yet. `abort`: also a savepoint rolled back, under its own xid, and, with `endLsn`
   * null, what a crash ended.
   */
  readonly outcome: 'commit' | 'abort' | 'prepare' | 'open';
  /** When it ended or was prepared, in microseconds since 1970. */
  readonly timeUs: bigint | null;
  /** The name under which it was prepared. */
  readonly gid: string | null;
  /** The database it changed rows or files in; null when that is not known. */
  readonly database: number | null;
  readonly rows: readonly RelationRows[];
  /** Of a table truncated or rewritten, the old file is here and the new one among `created`. */
  readonly dropped: readonly RelationFile[];
  readonly created: readonly RelationFile[];
}

/** What was committed and aborted in one second. */
export interface SecondTotals {
  /** Seconds since 1970, of the times of commits and aborts. */
  readonly second: number;
  readonly commits: number;
  /** Savepoints rolled back included: the log does not tell them apart. */
  readonly aborts: number;
  /** Of the transactions committed. */
  readonly rows: readonly RelationRows[];
}

/** Part of a record that crosses an end of what a summary covers, page headers taken out. */
export interface RecordPart {
  readonly bytes: Uint8Array;
  /** How many bytes of the record follow behind these. */
  readonly missingBehind: number;
}

/**
 * What a range of the log holds, as a rule one segment. Summaries of neighbours merge, and the result is that of the joined
 * log: so each carries the raw parts of the records that cross its two ends.
 */
export interface SegmentSummary {
  readonly timeline: number;
  /** Where it starts: the start of a segment. */
  readonly lsn: bigint;
  /** Behind the last byte that was read and is valid: the end of a segment, or of the last record. */
  readonly endLsn: bigint;
  readonly segmentSize: number;
  readonly majorVersion: PostgresMajorVersion;
  readonly systemIdentifier: string;
  /** Whether all of it was read, or what its log ends with. */
  readonly ended: 'segment end' | WalEnd['reason'];
  /** Whether every record's CRC was verified. */
  readonly verified: boolean;
  readonly recordCount: number;
  readonly firstRecordLsn: bigint | null;
  readonly lastRecordLsn: bigint | null;
  /** Where the record before the first one starts. */
  readonly previousRecordLsn: bigint | null;
  /** The rest, or a middle, of a record begun before it. */
  readonly head: RecordPart | null;
  /** The beginning of a record that goes on behind it. */
  readonly tail: RecordPart | null;
  /** In the order of the log. */
  readonly storage: readonly StorageEvent[];
  readonly events: readonly WalEvent[];
  readonly seconds: readonly SecondTotals[];
  readonly commits: number;
  readonly aborts: number;
  /** Pages changed: distinct blocks of all forks. */
  readonly pageCount: number;
  /**
   * Transactions that end in it, in the order of their ends; of those begun before it, the part in it. Behind the first
   * thousand, those of less than 100 rows that drop and create nothing are left out, and only counted.
   */
  transactions(options?: { readonly minimumRows?: number }): Iterable<TransactionSummary>;
  /** Those that have not ended, subtransactions apart from each other, in ascending order of xids. */
  readonly open: readonly TransactionSummary[];
}
