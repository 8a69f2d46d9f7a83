import { AppError } from '../../base/errors.ts';
import { formatLsn } from './lsn.ts';
import { decodeEvent, type WalEvent } from './wal-events.ts';
import type { PostgresMajorVersion } from './wal-pages.ts';
import { createWalReader, type WalEnd, type WalReader } from './wal-reader.ts';
import { RMGR_DATABASE, type WalRecord } from './wal-record.ts';
import { decodeStorage, type StorageEvent } from './wal-storage.ts';
import { decodeTransaction, type WalTransaction } from './wal-transactions.ts';

/** What one segment of the log, or a first part of one, holds. */
export interface SegmentScan {
  /** Where its bytes start. */
  readonly lsn: bigint;
  /** The first record that starts in it; null when none does. */
  readonly firstRecordLsn: bigint | null;
  /** The end of the last record that is complete with it; null when none is. */
  readonly lastRecordEndLsn: bigint | null;
  /** Whether all of it was read, or why it could not be: then `end` says where. */
  readonly ended: 'segment end' | WalEnd['reason'];
  readonly end: WalEnd | null;
  /** A record that goes on in the next segment, and is not among what is listed here. */
  readonly incompleteRecordLsn: bigint | null;
  readonly majorVersion: PostgresMajorVersion | null;
  readonly systemIdentifier: string | null;
  readonly timeline: number | null;
  readonly recordCount: number;
  /** In the order of the log, by where their records end: one begun in the segment before and ended here is here. */
  readonly transactions: readonly WalTransaction[];
  readonly restorePoints: readonly Extract<WalEvent, { kind: 'restore point' }>[];
  /** What else the log says of itself; restore points included. */
  readonly events: readonly WalEvent[];
  /** Where files of databases are removed: at once, and not with the end of the transaction. */
  readonly databasesDropped: readonly Extract<StorageEvent, { kind: 'database dropped' }>[];
}

export interface ScanOptions {
  readonly segmentSize: number;
  /** What the segments must be of; left out, the first one decides. */
  readonly systemIdentifier?: string;
  /** False for bytes that were verified already: three times as fast. */
  readonly verifyCrc?: boolean;
}

/**
 * Reads one segment on its own. A record that was begun before it is passed over, one that goes on behind it is not
 * decided by it: use {@link scanSegments} where that matters.
 *
 * @throws SYSTEM_MISMATCH ENGINE_VERSION CORRUPT
 */
export function scanSegment(bytes: Uint8Array, options: ScanOptions & { readonly lsn: bigint }): SegmentScan {
  const scanner = createScanner(options.lsn, options);
  return scanner.scan(options.lsn, bytes);
}

/**
 * Reads segments that follow each other, joining the records that cross from one to the next, and yields what each
 * holds. After one that ends before its end, nothing more is read.
 *
 * @throws LOG_NOT_FOUND when one does not start where the one before it ended
 * @throws SYSTEM_MISMATCH ENGINE_VERSION CORRUPT
 */
export async function* scanSegments(
  segments: AsyncIterable<{ readonly lsn: bigint; readonly bytes: Uint8Array }>,
  options: ScanOptions,
): AsyncGenerator<SegmentScan> {
  let scanner: ReturnType<typeof createScanner> | null = null;
  for await (const { lsn, bytes } of segments) {
    scanner ??= createScanner(lsn, options);
    const expected = scanner.reader.positionLsn;
    if (lsn !== expected) {
      throw new AppError(
        'LOG_NOT_FOUND',
        `unable to read the log at ${formatLsn(expected)}: it goes on at ${formatLsn(lsn)}`,
        {
          hint: 'A segment between the two is missing.',
          details: { expectedLsn: formatLsn(expected), foundLsn: formatLsn(lsn) },
        },
      );
    }
    const scan = scanner.scan(lsn, bytes);
    yield scan;
    if (scan.end !== null) return;
  }
}

function createScanner(
  startLsn: bigint,
  options: ScanOptions,
): { readonly reader: WalReader; scan(lsn: bigint, bytes: Uint8Array): SegmentScan } {
  let transactions: WalTransaction[] = [];
  let events: WalEvent[] = [];
  let databasesDropped: SegmentScan['databasesDropped'][number][] = [];
  let segmentLsn = startLsn;
  let firstRecordLsn: bigint | null = null;
  const onRecord = (record: WalRecord): void => {
    // A record begun in the segment before may be the first one that is complete here.
    if (firstRecordLsn === null && record.lsn >= segmentLsn) firstRecordLsn = record.lsn;
    const transaction = decodeTransaction(record);
    if (transaction !== null) transactions.push(transaction);
    const event = decodeEvent(record);
    if (event !== null) events.push(event);
    const change = record.rmgr === RMGR_DATABASE ? decodeStorage(record) : null;
    if (change?.kind === 'database dropped') databasesDropped.push(change);
  };
  const reader = createWalReader({ ...options, startLsn, onRecord });
  return {
    reader,
    scan(lsn, bytes) {
      transactions = [];
      events = [];
      databasesDropped = [];
      segmentLsn = lsn;
      firstRecordLsn = null;
      const countBefore = reader.recordCount;
      reader.push(bytes);
      const recordCount = reader.recordCount - countBefore;
      const { incompleteRecordLsn } = reader;
      if (incompleteRecordLsn !== null && incompleteRecordLsn >= lsn) firstRecordLsn ??= incompleteRecordLsn;
      return {
        lsn,
        firstRecordLsn,
        lastRecordEndLsn: recordCount === 0 ? null : reader.lastRecordEndLsn,
        ended: reader.end?.reason ?? 'segment end',
        end: reader.end,
        incompleteRecordLsn,
        majorVersion: reader.majorVersion,
        systemIdentifier: reader.systemIdentifier,
        timeline: reader.timeline,
        recordCount,
        transactions,
        restorePoints: events.filter(event => event.kind === 'restore point'),
        events,
        databasesDropped,
      };
    },
  };
}
