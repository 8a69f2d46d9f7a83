import { nextSegment, segmentStart } from '../../engines/postgres/lsn.ts';
import type { WalEvent } from '../../engines/postgres/wal-events.ts';
import { WAL_PAGE_BYTES } from '../../engines/postgres/wal-pages.ts';
import { RECORD_HEADER_BYTES } from '../../engines/postgres/wal-record.ts';
import { scanSegments } from '../../engines/postgres/wal-scan.ts';
import type { WalTransaction } from '../../engines/postgres/wal-transactions.ts';
import type { Repository } from '../../repository/repository.ts';
import { storedSummaryAt } from './log-summaries-read.ts';
import type { LogView } from './log-view.ts';
import { RMGR_OFFSET, type SegmentEnds, segmentEnds, tellsEnds } from './segment-ends.ts';

/** The archived log, and where its summaries are. */
export interface LogSource {
  readonly repository: Repository;
  readonly view: LogView;
}

/**
 * The ends of transactions in the archived log, segment by segment. Each segment is read and decoded once, and not at all
 * where its summary says that there is nothing of the kind in it, as in those that a mass change fills.
 */
export interface LogTransactions {
  readonly view: LogView;
  /** The start of the first usable segment. */
  readonly first: bigint;
  /** Where the log is sure to be whole from: what is before may belong to a record that began earlier. */
  readonly from: bigint;
  /** The start of the first missing segment. */
  readonly to: bigint;
  /** Commits, aborts and prepares whose records start in the segment at `lsn`, in the order of the log. */
  inSegment(lsn: bigint): Promise<readonly WalTransaction[]>;
  /** The restore points in the segment at `lsn`, in the order of the log. */
  restorePointsIn(lsn: bigint): Promise<readonly RestorePoint[]>;
  /** Where files of databases are removed, in the segment at `lsn`, and by which transactions. */
  databasesDroppedIn(lsn: bigint): Promise<readonly { readonly lsn: bigint; readonly xid: number }[]>;
  /**
   * The first and the last second in which a transaction ended in the segment at `lsn`, by its summary; one that ends in a
   * record which goes on in the next segment does not count. Null: none did, or there is no summary.
   */
  secondsIn(lsn: bigint): Promise<SegmentEnds['seconds']>;
  /** The end of the last record that is complete; `from` when there is none. */
  recordsEnd(): Promise<bigint>;
}

export type RestorePoint = Extract<WalEvent, { kind: 'restore point' }>;

interface DecodedSegment {
  readonly transactions: readonly WalTransaction[];
  readonly restorePoints: readonly RestorePoint[];
  readonly databasesDropped: readonly { readonly lsn: bigint; readonly xid: number }[];
  readonly lastRecordEndLsn: bigint | null;
}

/** Whether the record at `offset`, of which the segment holds the beginning, may be one of those that are listed. */
function mayTell(bytes: Uint8Array, offset: number): boolean {
  const isWithinPage = (offset % WAL_PAGE_BYTES) + RECORD_HEADER_BYTES <= WAL_PAGE_BYTES;
  // One that began before the segment is listed with that one.
  return offset >= 0 && (!isWithinPage || tellsEnds(bytes[offset + RMGR_OFFSET]));
}

const QUIET: Omit<DecodedSegment, 'lastRecordEndLsn'> = {
  transactions: [],
  restorePoints: [],
  databasesDropped: [],
};

/** Enough for the records that cross into the next segment; a commit of thousands of subtransactions may need more. */
const HEAD_BYTES = 256 * 1024;
const SEGMENTS_HELD = 2;

export function logTransactions(
  source: LogSource,
  range: { readonly from: bigint; readonly to: bigint },
  signal: AbortSignal,
): LogTransactions {
  const { repository, view } = source;
  const size = BigInt(view.segmentSize);
  const decoded = new Map<bigint, DecodedSegment>();
  const held = new Map<bigint, Promise<Uint8Array>>();
  const bytesAt = (lsn: bigint): Promise<Uint8Array> => {
    const known = held.get(lsn);
    if (known !== undefined) return known;
    const bytes = view.read(lsn);
    for (const old of [...held.keys()].slice(0, Math.max(0, held.size - SEGMENTS_HELD + 1))) held.delete(old);
    held.set(lsn, bytes);
    return bytes;
  };
  const decode = async (lsn: bigint, headBytes: number): Promise<DecodedSegment> => {
    const next = nextSegment(lsn, view.segmentSize);
    let unfinished: bigint | null = null;
    async function* pieces(): AsyncGenerator<{ lsn: bigint; bytes: Uint8Array }, void, undefined> {
      const bytes = await bytesAt(lsn);
      yield { lsn, bytes };
      // By now the first one is read. A record may go on in the next; one that is no transaction's end is none of ours.
      if (unfinished !== null && !mayTell(bytes, Number(unfinished - lsn))) unfinished = null;
      if (unfinished !== null && next < range.to)
        yield { lsn: next, bytes: (await bytesAt(next)).subarray(0, headBytes) };
    }
    const transactions: WalTransaction[] = [];
    const restorePoints: RestorePoint[] = [];
    const databasesDropped: { lsn: bigint; xid: number }[] = [];
    let lastRecordEndLsn: bigint | null = null;
    const options = {
      segmentSize: view.segmentSize,
      systemIdentifier: view.owner.systemIdentifier,
      verifyCrc: next >= range.to,
    };
    for await (const scan of scanSegments(pieces(), options)) {
      transactions.push(...scan.transactions.filter(each => each.lsn < next));
      restorePoints.push(...scan.restorePoints.filter(each => each.lsn < next));
      databasesDropped.push(...scan.databasesDropped.filter(each => each.lsn < next));
      lastRecordEndLsn = scan.lastRecordEndLsn ?? lastRecordEndLsn;
      unfinished = scan.incompleteRecordLsn;
    }
    if (unfinished !== null && unfinished < next && headBytes < view.segmentSize && next < range.to)
      return decode(lsn, view.segmentSize);
    return { transactions, restorePoints, databasesDropped, lastRecordEndLsn };
  };
  const decodedAt = async (lsn: bigint): Promise<DecodedSegment> => {
    signal.throwIfAborted();
    const known = decoded.get(lsn);
    if (known !== undefined) return known;
    const found = await decode(lsn, HEAD_BYTES);
    decoded.set(lsn, found);
    return found;
  };
  const summarised = new Map<bigint, Promise<SegmentEnds | null>>();
  const endsAt = (lsn: bigint): Promise<SegmentEnds | null> => {
    const known = summarised.get(lsn);
    if (known !== undefined) return known;
    const ends = storedSummaryAt({ repository, view, signal }, lsn).then(
      summary => summary && segmentEnds(summary),
    );
    summarised.set(lsn, ends);
    return ends;
  };
  const endingsAt = async (lsn: bigint): Promise<typeof QUIET> => {
    const known = decoded.get(lsn);
    if (known !== undefined) return known;
    return (await endsAt(lsn))?.isQuiet === true ? QUIET : await decodedAt(lsn);
  };
  const first = segmentStart(range.from, view.segmentSize);
  return {
    view,
    from: range.from,
    to: range.to,
    first,
    inSegment: async lsn => (await endingsAt(lsn)).transactions,
    databasesDroppedIn: async lsn => (await endingsAt(lsn)).databasesDropped,
    restorePointsIn: async lsn => (await endingsAt(lsn)).restorePoints,
    secondsIn: async lsn => (await endsAt(lsn))?.seconds ?? null,
    async recordsEnd() {
      for (let lsn = range.to - size; lsn >= first; lsn -= size) {
        const { lastRecordEndLsn } = await decodedAt(lsn);
        if (lastRecordEndLsn !== null) return lastRecordEndLsn;
      }
      return range.from;
    },
  };
}
