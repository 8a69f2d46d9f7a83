import { AppError } from '../../base/errors.ts';
import { formatMoment } from '../../base/moment.ts';
import { formatLsn, segmentStart } from '../../engines/postgres/lsn.ts';
import type { WalTransaction } from '../../engines/postgres/wal-transactions.ts';
import type { LogTransactions } from '../log/log-transactions.ts';
import type { EdgeTransaction, RecoveryRequest, ResolvedTarget } from './recovery-request.ts';

/**
 * Turns a time or a transaction into a position, by reading the few segments that matter (a search by halves for a time,
 * from the end backwards for a transaction). A position is better than PostgreSQL's own targets: with a time, the server
 * only stops at the next commit, after it has replayed all of the bad transaction.
 *
 * @throws TARGET_UNREACHABLE, LOG_NOT_FOUND
 */
export async function resolveTarget(
  log: LogTransactions,
  request: RecoveryRequest,
  securedUs: bigint | null,
): Promise<ResolvedTarget> {
  if (request.kind === 'time') return resolveTime(log, request.timeUs, securedUs);
  if (request.kind === 'xid') return resolveXid(log, request);
  if (request.kind === 'lsn') return edges(log, request.lsn);
  return { lsn: null, lastKept: edge(await lastBefore(log, log.to)), firstDropped: null };
}

/** How far to look for the transactions beside a target: they are told to a person, nothing depends on them. */
const EDGE_SEGMENTS = 64;

/** Every commit later than the target is dropped, so the recovery stops before the first of them. */
async function resolveTime(
  log: LogTransactions,
  timeUs: bigint,
  securedUs: bigint | null,
): Promise<ResolvedTarget> {
  const size = BigInt(log.view.segmentSize);
  const count = Number((log.to - log.first) / size);
  const at = (index: number): Promise<readonly WalTransaction[]> =>
    log.inSegment(log.first + BigInt(index) * size);
  // The first segment, from `index` on, in which a transaction ended; `count` when there is none.
  const nextBusy = async (index: number): Promise<number> => {
    let busy = index;
    while (busy < count && (await at(busy)).length === 0) busy += 1;
    return busy;
  };
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    const busy = await nextBusy(middle);
    const isLater = busy === count || (await at(busy)).some(each => each.timeUs > timeUs);
    if (isLater) high = middle;
    else low = busy + 1;
  }
  // Commit times are taken a moment before their records are written, so they are not quite in order: the segments
  // beside are looked at too.
  let dropped: WalTransaction | undefined;
  for (let index = Math.max(0, low - 1); index < count && dropped === undefined; index += 1) {
    dropped = (await at(index)).find(each => each.timeUs > timeUs && each.lsn >= log.from);
  }
  if (dropped !== undefined)
    return {
      lsn: dropped.lsn,
      lastKept: edge(await lastBefore(log, dropped.lsn)),
      firstDropped: edge(dropped),
    };
  const last = await lastBefore(log, log.to);
  // Nothing was committed since only when nothing can be missing: when a segment was archived says little about it, as
  // the one after it may hold what was committed meanwhile.
  const reachesEnd = log.view.end === null || log.to >= log.view.end;
  const isSecured = securedUs !== null && timeUs <= securedUs && reachesEnd;
  if (isSecured || (last !== undefined && timeUs <= last.timeUs))
    return { lsn: null, lastKept: edge(last), firstDropped: null };
  throw new AppError(
    'TARGET_UNREACHABLE',
    `unable to recover to ${formatMoment(timeUs)}: the archived log ends before it`,
    {
      hint:
        last === undefined
          ? 'Use --latest for the end of the log.'
          : `The last archived transaction was committed at ${formatMoment(last.timeUs)}; use --latest for the end of the log.`,
      details: { logEnd: formatLsn(log.to) },
    },
  );
}

/** Looks from the end backwards: what is to be undone usually happened minutes ago. */
async function resolveXid(
  log: LogTransactions,
  request: Extract<RecoveryRequest, { kind: 'xid' }>,
): Promise<ResolvedTarget> {
  const size = BigInt(log.view.segmentSize);
  for (let lsn = log.to - size; lsn >= log.first; lsn -= size) {
    const found = (await log.inSegment(lsn)).find(each => each.xid === request.xid && each.lsn >= log.from);
    if (found === undefined) continue;
    if (found.kind === 'abort' || found.kind === 'abort prepared') {
      throw new AppError(
        'TARGET_UNREACHABLE',
        `transaction ${request.xid} was rolled back at ${formatMoment(found.timeUs)}: it changed nothing`,
        {
          hint: 'Check the number; `--point-in-time` recovers to a time.',
        },
      );
    }
    return edges(log, request.after ? found.endLsn : found.lsn);
  }
  throw new AppError(
    'LOG_NOT_FOUND',
    `transaction ${request.xid} is not in the archived log after the first usable backup`,
    {
      hint: 'It may still be running, have changed nothing, or lie before the oldest backup. The number is the 32-bit one that pg_current_xact_id() shows modulo 2^32.',
    },
  );
}

/** The transactions to both sides of a position. */
async function edges(log: LogTransactions, lsn: bigint): Promise<ResolvedTarget> {
  const size = BigInt(log.view.segmentSize);
  let firstDropped: WalTransaction | undefined;
  let at = segmentStart(lsn, log.view.segmentSize);
  for (let looked = 0; at < log.to && firstDropped === undefined && looked < EDGE_SEGMENTS; looked += 1) {
    firstDropped = (await log.inSegment(at)).find(each => each.lsn >= lsn);
    at += size;
  }
  return { lsn, lastKept: edge(await lastBefore(log, lsn)), firstDropped: edge(firstDropped) };
}

/** The last commit or abort whose record starts before a position. */
async function lastBefore(log: LogTransactions, lsn: bigint): Promise<WalTransaction | undefined> {
  const size = BigInt(log.view.segmentSize);
  let at = segmentStart(lsn < log.to ? lsn : log.to - 1n, log.view.segmentSize);
  for (let looked = 0; at >= log.first && looked < EDGE_SEGMENTS; looked += 1) {
    const last = (await log.inSegment(at)).filter(each => each.lsn < lsn).at(-1);
    if (last !== undefined) return last;
    at -= size;
  }
  return undefined;
}

function edge(transaction: WalTransaction | undefined): EdgeTransaction | null {
  return transaction === undefined
    ? null
    : { xid: transaction.xid, timeUs: transaction.timeUs, lsn: transaction.lsn };
}
