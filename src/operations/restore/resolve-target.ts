import { AppError } from '../../base/errors.ts';
import { formatMoment } from '../../base/moment.ts';
import { formatLsn, nextSegment, segmentStart } from '../../engines/postgres/lsn.ts';
import { scanSegments } from '../../engines/postgres/wal-scan.ts';
import type { WalTransaction } from '../../engines/postgres/wal-transactions.ts';
import type { LogView } from '../log/log-view.ts';
import type { EdgeTransaction, RecoveryRequest, ResolvedTarget } from './recovery-request.ts';

/** The part of the log that can be used: from the end of the oldest usable backup to the first gap. */
export interface UsableLog {
  readonly view: LogView;
  readonly from: bigint;
  /** The start of the first missing segment. */
  readonly to: bigint;
}

/**
 * Turns a time or a transaction into a position, by reading the few segments that matter (a search by halves for a time,
 * from the end backwards for a transaction). A position is better than PostgreSQL's own targets: with a time, the server
 * only stops at the next commit, after it has replayed all of the bad transaction.
 *
 * @throws TARGET_UNREACHABLE, LOG_NOT_FOUND
 */
export async function resolveTarget(log: UsableLog, request: RecoveryRequest, signal: AbortSignal): Promise<ResolvedTarget> {
  if (request.kind === 'time') return resolveTime(log, request.timeUs, signal);
  if (request.kind === 'xid') return resolveXid(log, request, signal);
  if (request.kind === 'lsn') return edges(log, request.lsn, signal);
  return { lsn: null, lastKept: await lastTransaction(log, signal), firstDropped: null };
}

/** Commits and aborts of the segments from `from` to before `to`, in the order of the log; joined across segments. */
export async function transactionsBetween(log: UsableLog, from: bigint, to: bigint, signal: AbortSignal): Promise<WalTransaction[]> {
  const found: WalTransaction[] = [];
  for await (const scan of scanSegments(segmentsBetween(log, from, to, signal), { segmentSize: log.view.segmentSize, systemIdentifier: log.view.owner.systemIdentifier })) {
    for (const transaction of scan.transactions) if (transaction.kind !== 'prepare') found.push(transaction);
  }
  return found;
}

async function* segmentsBetween(log: UsableLog, from: bigint, to: bigint, signal: AbortSignal): AsyncGenerator<{ lsn: bigint; bytes: Uint8Array }, void, undefined> {
  const { view } = log;
  for (let lsn = segmentStart(from, view.segmentSize); lsn < to; lsn = nextSegment(lsn, view.segmentSize)) {
    signal.throwIfAborted();
    yield { lsn, bytes: await view.read(lsn) };
  }
}

/** Every commit later than the target is dropped, so the recovery stops before the first of them. */
async function resolveTime(log: UsableLog, timeUs: bigint, signal: AbortSignal): Promise<ResolvedTarget> {
  const size = BigInt(log.view.segmentSize);
  const first = segmentStart(log.from, log.view.segmentSize);
  const count = Number((log.to - first) / size);
  const isLater = async (index: number): Promise<boolean> => {
    for (let at = index; at < count; at += 1) {
      const inside = await transactionsBetween(log, first + BigInt(at) * size, first + BigInt(at + 1) * size, signal);
      if (inside.length > 0) return inside.some(each => each.timeUs > timeUs);
    }
    // Nothing was committed from here to the end of the log: the target, if anywhere, lies before.
    return true;
  };
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (await isLater(middle)) high = middle;
    else low = middle + 1;
  }
  // Commit times are taken a moment before their records are written, so they are not quite in order: one segment
  // before is looked at too, and one after, for a record may cross into it.
  const from = first + BigInt(Math.max(0, low - 2)) * size;
  const to = first + BigInt(Math.min(count, low + 2)) * size;
  const near = await transactionsBetween(log, from, to, signal);
  const dropped = near.find(each => each.timeUs > timeUs && each.lsn >= log.from);
  const lastKept = near.filter(each => dropped === undefined || each.lsn < dropped.lsn).at(-1);
  if (dropped !== undefined) return { lsn: dropped.lsn, lastKept: edge(lastKept), firstDropped: edge(dropped) };
  const storedMs = log.view.storedMs(log.to - 1n);
  if (storedMs !== null && BigInt(storedMs) * 1000n >= timeUs) return { lsn: null, lastKept: await lastTransaction(log, signal), firstDropped: null };
  const last = await lastTransaction(log, signal);
  throw new AppError('TARGET_UNREACHABLE', `unable to recover to ${formatMoment(timeUs)}: the archived log ends before it`, {
    hint: last === null
      ? 'Use --latest for the end of the log.'
      : `The last archived transaction was committed at ${formatMoment(last.timeUs)}; use --latest for the end of the log.`,
    details: { logEnd: formatLsn(log.to) },
  });
}

/** Looks from the end backwards, a few segments at a time: what is to be undone usually happened minutes ago. */
async function resolveXid(log: UsableLog, request: Extract<RecoveryRequest, { kind: 'xid' }>, signal: AbortSignal): Promise<ResolvedTarget> {
  const size = BigInt(log.view.segmentSize);
  const window = 8n * size;
  const first = segmentStart(log.from, log.view.segmentSize);
  for (let to = log.to; to > first; to -= window) {
    const from = to - window > first ? to - window : first;
    // One segment more at each side joins the records that cross.
    const found = (await transactionsBetween(log, from > first ? from - size : first, to + size < log.to ? to + size : log.to, signal)).find(each => each.xid === request.xid && each.lsn >= log.from);
    if (found === undefined) continue;
    if (found.kind === 'abort' || found.kind === 'abort prepared') {
      throw new AppError('TARGET_UNREACHABLE', `transaction ${request.xid} was rolled back at ${formatMoment(found.timeUs)}: it changed nothing`, {
        hint: 'Check the number; `--point-in-time` recovers to a time.',
      });
    }
    return edges(log, request.after ? found.endLsn : found.lsn, signal);
  }
  throw new AppError('LOG_NOT_FOUND', `transaction ${request.xid} is not in the archived log after the first usable backup`, {
    hint: 'It may still be running, have changed nothing, or lie before the oldest backup. The number is the 32-bit one that pg_current_xact_id() shows modulo 2^32.',
  });
}

/** The transactions to both sides of a position. */
async function edges(log: UsableLog, lsn: bigint, signal: AbortSignal): Promise<ResolvedTarget> {
  const size = BigInt(log.view.segmentSize);
  const at = segmentStart(lsn, log.view.segmentSize);
  const first = segmentStart(log.from, log.view.segmentSize);
  if (at >= log.to) return { lsn, lastKept: await lastTransaction(log, signal), firstDropped: null };
  let lastKept: WalTransaction | undefined;
  let firstDropped: WalTransaction | undefined;
  for (let back = at; lastKept === undefined; back -= size) {
    const near = await transactionsBetween(log, back > first ? back - size : first, at + 2n * size < log.to ? at + 2n * size : log.to, signal);
    lastKept = near.filter(each => each.lsn < lsn).at(-1);
    firstDropped = near.find(each => each.lsn >= lsn);
    if (back <= first || at - back >= 4n * size) break;
  }
  return { lsn, lastKept: edge(lastKept), firstDropped: edge(firstDropped) };
}

/** The last commit or abort in the log, looking back a few segments from its end. */
async function lastTransaction(log: UsableLog, signal: AbortSignal): Promise<EdgeTransaction | null> {
  const size = BigInt(log.view.segmentSize);
  const first = segmentStart(log.from, log.view.segmentSize);
  for (let segments = 2n; segments <= 32n; segments *= 4n) {
    const from = log.to - segments * size;
    const found = await transactionsBetween(log, from > first ? from : first, log.to, signal);
    if (found.length > 0 || from <= first) return edge(found.at(-1));
  }
  return null;
}

function edge(transaction: WalTransaction | undefined): EdgeTransaction | null {
  return transaction === undefined ? null : { xid: transaction.xid, timeUs: transaction.timeUs, lsn: transaction.lsn };
}
