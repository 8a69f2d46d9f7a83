import { AppError } from '../../base/errors.ts';
import { releaseMemory } from '../../base/release-memory.ts';
import { type DestroyedRows, DestroyedRowsFinder } from '../../engines/postgres/destroyed-rows.ts';
import { formatLsn, nextSegment, segmentStart } from '../../engines/postgres/lsn.ts';
import { startsAfter } from '../../engines/postgres/running-transactions.ts';
import { createWalReader } from '../../engines/postgres/wal-reader.ts';
import type { WalRecord } from '../../engines/postgres/wal-record.ts';
import type { WalTransaction } from '../../engines/postgres/wal-transactions.ts';
import type { LogView } from '../log/log-view.ts';

export interface FoundDestroyed {
  readonly rows: readonly DestroyedRows[];
  /** The transaction wrote nothing before. */
  readonly from: bigint;
  readonly segments: number;
}

/** As much as most records that cross into the next segment have in it. */
const HEAD_BYTES = 256 * 1024;

/**
 * Reads the log of a transaction from its end backwards, as far as it reaches, and gathers where the rows lay that it destroyed.
 *
 * @param log from where on it is whole, and where the transaction is known to begin, if anybody knows
 * @throws UNDO_REFUSED when its beginning is not in the log; CORRUPT
 */
export async function findDestroyed(
  transaction: WalTransaction,
  log: { readonly view: LogView; readonly from: bigint; readonly begin: bigint | null },
  signal: AbortSignal,
): Promise<FoundDestroyed> {
  const { view } = log;
  const finder = new DestroyedRowsFinder(new Set([transaction.xid, ...transaction.subxids]));
  const last = segmentStart(transaction.lsn, view.segmentSize);
  let segments = 0;
  let behind: Uint8Array | null = null;
  for (let at = last; at >= log.from; at -= BigInt(view.segmentSize)) {
    signal.throwIfAborted();
    const bytes: Uint8Array = await view.read(at);
    let isBegun = log.begin !== null && log.begin >= at;
    readSegment(view, { at, bytes, behind }, transaction.lsn, record => {
      finder.addRecord(record);
      if (startsAfter(record, transaction.xid)) isBegun = true;
    });
    segments += 1;
    if (behind !== null) releaseMemory(behind);
    if (isBegun) return { rows: finder.finish(), from: at, segments };
    behind = bytes;
  }
  throw new AppError(
    'UNDO_REFUSED',
    `unable to undo transaction ${transaction.xid}: where it begins is not in the log, which goes back to ${formatLsn(log.from)}`,
    {
      hint: 'What it did before that cannot be known. `aishell backup restore` brings the whole instance back to before it.',
    },
  );
}

/** Calls `onRecord` for the records that start in a segment and no later than `until`. @throws CORRUPT */
function readSegment(
  view: LogView,
  segment: { readonly at: bigint; readonly bytes: Uint8Array; readonly behind: Uint8Array | null },
  until: bigint,
  onRecord: (record: WalRecord) => void,
): void {
  const next = nextSegment(segment.at, view.segmentSize);
  const origin = segmentStart(segment.at, view.segmentSize);
  const lastAt = Number((until < next ? until : next - 1n) - origin);
  const reader = createWalReader({
    segmentSize: view.segmentSize,
    startLsn: segment.at,
    systemIdentifier: view.owner.systemIdentifier,
    // What lies in the archive is sealed; the server's own last segment may end in the middle of a record.
    verifyCrc: segment.behind === null,
    onRecord: record => {
      if (record.at <= lastAt) onRecord(record);
    },
  });
  reader.push(segment.bytes);
  for (let from = 0; segment.behind !== null && from < segment.behind.length; from += HEAD_BYTES) {
    const { incompleteRecordLsn } = reader;
    if (incompleteRecordLsn === null || incompleteRecordLsn >= next) break;
    reader.push(segment.behind.subarray(from, from + HEAD_BYTES));
  }
  if (reader.end !== null && reader.end.lsn <= until) {
    throw new AppError(
      'CORRUPT',
      `unable to read the log at ${formatLsn(reader.end.lsn)}: ${reader.end.message}`,
      { hint: '`aishell backup verify` checks the archived log.' },
    );
  }
}
