import { AppError } from '../../base/errors.ts';
import { formatMoment } from '../../base/moment.ts';
import { formatLsn, nextRecordStart, segmentStart } from '../../engines/postgres/lsn.ts';
import type { WalTransaction } from '../../engines/postgres/wal-transactions.ts';
import type { LogTransactions } from '../log/log-transactions.ts';
import type { EdgeTransaction, RecoveryRequest, ResolvedTarget } from './recovery-request.ts';

export interface ResolveOptions {
  /** Everything the live server had written by then is archived: microseconds since 1970. Null: nobody knows. */
  readonly securedUs: bigint | null;
  /** The recovery cannot stop before: the end of the backup it starts from. */
  readonly floor: bigint;
}

/** A commit that was found already, by a description. */
export interface FoundCommit {
  readonly kind: 'commit';
  readonly lsn: bigint;
  readonly endLsn: bigint;
  readonly after: boolean;
  readonly found: string;
}

/** A transaction whose end is to be found; `before`: where its timeline was left, behind which others have its number. */
export type UnplacedTransaction = Extract<RecoveryRequest, { kind: 'xid' }> & { readonly before?: bigint };

/**
 * Turns a time, a transaction or a name into a position, by reading the few segments that matter (a search by halves for a
 * time, from the end backwards for the others). A position is better than PostgreSQL's own targets: with a time, the server
 * only stops at the next commit, after it has replayed all of the bad transaction.
 *
 * @returns null when it lies before the floor: an older backup is needed
 * @throws TARGET_UNREACHABLE, LOG_NOT_FOUND
 */
export async function resolveTarget(
  log: LogTransactions,
  request:
    | Exclude<RecoveryRequest, { kind: 'backup' | 'change' | 'incident' | 'xid' }>
    | UnplacedTransaction
    | FoundCommit,
  options: ResolveOptions,
): Promise<ResolvedTarget | null> {
  switch (request.kind) {
    case 'time':
      return resolveTime(log, request.timeUs, options);
    case 'xid':
      return resolveXid(log, request, options);
    case 'restore point':
      return resolveRestorePoint(log, request.name, options);
    case 'commit': {
      const resolved = await around(log, request.after ? request.endLsn : request.lsn, options);
      return resolved && { ...resolved, found: request.found };
    }
    case 'lsn':
      return resolvePosition(log, request.lsn);
    case 'latest':
      return { lsn: null, lastKept: edge(await lastBefore(log, log.to)), firstDropped: null, found: null };
  }
}

/** How far to look for the transactions beside a target. */
const EDGE_SEGMENTS = 64;

/** Every commit later than the target is dropped, so the recovery stops before the first of them. */
async function resolveTime(
  log: LogTransactions,
  timeUs: bigint,
  options: ResolveOptions,
): Promise<ResolvedTarget | null> {
  const size = BigInt(log.view.segmentSize);
  const count = Number((log.to - log.first) / size);
  const at = async (index: number): Promise<readonly WalTransaction[]> =>
    (await log.inSegment(log.first + BigInt(index) * size)).filter(isEnd);
  const secondsAt = (index: number): ReturnType<LogTransactions['secondsIn']> =>
    log.secondsIn(log.first + BigInt(index) * size);
  // The first segment, from `index` on, in which a transaction ended; `count` when there is none.
  const nextBusy = async (index: number): Promise<number> => {
    let busy = index;
    while (busy < count && (await secondsAt(busy)) === null && (await at(busy)).length === 0) busy += 1;
    return busy;
  };
  const wanted = Number(timeUs / 1_000_000n);
  const hasLater = async (index: number): Promise<boolean> => {
    const last = (await secondsAt(index))?.last ?? wanted;
    return last === wanted ? (await at(index)).some(each => each.timeUs > timeUs) : last > wanted;
  };
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    const busy = await nextBusy(middle);
    const isLater = busy === count || (await hasLater(busy));
    if (isLater) high = middle;
    else low = busy + 1;
  }
  // Commit times are taken a moment before their records are written, so they are not quite in order: the segments
  // beside are looked at too.
  let dropped: WalTransaction | undefined;
  for (let index = Math.max(0, low - 1); index < count && dropped === undefined; index += 1) {
    dropped = (await at(index)).find(each => isCommit(each) && each.timeUs > timeUs && each.lsn >= log.from);
  }
  if (dropped !== undefined) return around(log, dropped.lsn, { ...options, preparedUs: timeUs });
  const last = await lastBefore(log, log.to);
  // Nothing was committed since only when nothing can be missing: when a segment was archived says little about it, as
  // the one after it may hold what was committed meanwhile.
  const reachesEnd = log.view.end === null || log.to >= log.view.end;
  const { securedUs } = options;
  const isSecured = securedUs !== null && timeUs <= securedUs && reachesEnd;
  if (isSecured || (last !== undefined && timeUs <= last.timeUs))
    return { lsn: null, lastKept: edge(last), firstDropped: null, found: null };
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

async function resolveXid(
  log: LogTransactions,
  request: UnplacedTransaction,
  options: ResolveOptions,
): Promise<ResolvedTarget | null> {
  const found = await findEndOf(log, request.xid, request.before);
  return around(log, request.after ? found.endLsn : found.lsn, options);
}

/**
 * The record that committed a transaction, by its number or that of one of its subtransactions. Looks from the end
 * backwards: what is to be undone usually happened minutes ago.
 *
 * @throws LOG_NOT_FOUND; TARGET_UNREACHABLE when it was rolled back, or is only prepared
 */
export async function findEndOf(log: LogTransactions, xid: number, before = log.to): Promise<WalTransaction> {
  for await (const lsn of backwards(log)) {
    const found = (await log.inSegment(lsn)).findLast(
      each => (each.xid === xid || each.subxids.includes(xid)) && each.lsn >= log.from && each.lsn < before,
    );
    if (found === undefined) continue;
    if (found.kind === 'prepare') throw onlyPrepared(found);
    if (isCommit(found)) return found;
    throw new AppError(
      'TARGET_UNREACHABLE',
      `transaction ${xid} was rolled back at ${formatMoment(found.timeUs)}: it changed nothing`,
      {
        hint: 'Nothing of it is there to be undone. `aishell backup timeline` shows what was committed.',
      },
    );
  }
  throw new AppError(
    'LOG_NOT_FOUND',
    `transaction ${xid} is not in the archived log after the first usable backup`,
    {
      hint: 'It may still be running, have changed nothing, or lie before the oldest backup. The number is the 32-bit one that pg_current_xact_id() shows modulo 2^32.',
    },
  );
}

function onlyPrepared(found: WalTransaction): AppError {
  const name = found.gid === null ? '' : ` as '${found.gid}'`;
  return new AppError(
    'TARGET_UNREACHABLE',
    `transaction ${found.xid} was prepared${name} at ${formatMoment(found.timeUs)}, and is neither committed nor rolled back in the archived log`,
    {
      hint: 'What it changed is not visible to anyone yet. ROLLBACK PREPARED undoes it; it needs no restore.',
    },
  );
}

async function resolveRestorePoint(
  log: LogTransactions,
  name: string,
  options: ResolveOptions,
): Promise<ResolvedTarget | null> {
  const others = new Set<string>();
  for await (const lsn of backwards(log)) {
    const points = (await log.restorePointsIn(lsn)).filter(each => each.lsn >= log.from);
    const point = points.findLast(each => each.name === name);
    for (const other of points) others.add(other.name);
    if (point === undefined) continue;
    const resolved = await around(log, point.endLsn, options);
    return resolved && { ...resolved, found: `made at ${formatMoment(point.timeUs)}` };
  }
  throw new AppError(
    'LOG_NOT_FOUND',
    `restore point '${name}' is not in the archived log after the first usable backup`,
    {
      hint:
        others.size === 0
          ? 'There is none at all. SELECT pg_create_restore_point(…) makes one.'
          : `There ${others.size === 1 ? 'is' : 'are'}: ${[...others].slice(0, 10).join(', ')}.`,
    },
  );
}

/** The position is the user's own, so it is taken as it is; at the very end of the log it means all of it. */
async function resolvePosition(log: LogTransactions, lsn: bigint): Promise<ResolvedTarget> {
  const end = await log.recordsEnd();
  const lastKept = edge(await lastBefore(log, lsn < end ? lsn : end));
  if (lsn < end) return { lsn, lastKept, firstDropped: edge(await firstFrom(log, lsn)), found: null };
  if (lsn <= nextRecordStart(end, log.view.segmentSize))
    return { lsn: null, lastKept, firstDropped: null, found: null };
  // In a segment that is missing: the caller knows which.
  if (lsn >= log.to) return { lsn, lastKept, firstDropped: null, found: null };
  throw new AppError(
    'TARGET_UNREACHABLE',
    `unable to recover to ${formatLsn(lsn)}: the archived log ends at ${formatLsn(end)}`,
    { hint: 'Use --latest for the end of the log.', details: { end: formatLsn(end) } },
  );
}

/**
 * Keeps what ended before `lsn`, and stops right behind the last of it. Between there and `lsn` nothing ended, so the
 * state is the same; but the work of the transaction that is to be dropped often lies there, and is not replayed first.
 */
async function around(
  log: LogTransactions,
  lsn: bigint,
  options: ResolveOptions & { readonly preparedUs?: bigint },
): Promise<ResolvedTarget | null> {
  // Before the backup, or behind a hole: then it was found with the log of another backup.
  if (lsn < options.floor || lsn > log.to) return null;
  const dropped = await databaseDropBefore(log, lsn);
  if (dropped !== null) return around(log, dropped, options);
  const end = await log.recordsEnd();
  const lastKept = edge(await lastBefore(log, lsn));
  // No record follows that the server could stop before: all of the log is what was asked for.
  if (lsn >= end) return { lsn: null, lastKept, firstDropped: null, found: null };
  const front = await frontOf(log, lsn, options);
  return { lsn: front, lastKept, firstDropped: edge(await firstFrom(log, lsn)), found: null };
}

/**
 * DROP DATABASE removes the files a moment before it commits. What stops between the two has a database without files, so
 * the recovery stops before both, and whatever was committed in that moment is dropped with it.
 */
async function databaseDropBefore(log: LogTransactions, lsn: bigint): Promise<bigint | null> {
  const at = segmentStart(lsn, log.view.segmentSize);
  for (const segment of [at - BigInt(log.view.segmentSize), at]) {
    if (segment < log.first || segment >= log.to) continue;
    for (const drop of await log.databasesDroppedIn(segment)) {
      // Without an xid it is the rest of ALTER DATABASE … SET TABLESPACE, whose commit comes first.
      if (drop.xid === 0 || drop.lsn < log.from || drop.lsn >= lsn) continue;
      const ends = [...(await log.inSegment(segment)), ...(segment < at ? await log.inSegment(at) : [])];
      const isEnded = ends.some(each => each.xid === drop.xid && each.lsn > drop.lsn && each.lsn < lsn);
      if (!isEnded) return drop.lsn;
    }
  }
  return null;
}

/** Where the last record before `lsn` ends whose replay makes a difference. */
async function frontOf(
  log: LogTransactions,
  lsn: bigint,
  options: ResolveOptions & { readonly preparedUs?: bigint },
): Promise<bigint> {
  const { preparedUs = null } = options;
  const makesDifference = (each: WalTransaction): boolean => {
    if (each.kind !== 'prepare' && each.kind !== 'abort') return true;
    // One that was prepared survives; unless it was after the time that is asked for.
    if (each.kind === 'prepare') return preparedUs === null || each.timeUs <= preparedUs;
    // What was rolled back left no rows, but files, that are removed only here.
    return each.droppedRelations.length > 0;
  };
  // A recovery that ends before a timeline begins would have left it.
  const begin = log.view.chain.findLast(step => step.begin <= lsn)?.begin ?? 0n;
  const floor = [options.floor, begin, log.from].reduce((a, b) => (a > b ? a : b));
  const size = BigInt(log.view.segmentSize);
  let at = segmentStart(lsn, log.view.segmentSize);
  for (let looked = 0; looked < EDGE_SEGMENTS && at >= log.first && at + size > floor; looked += 1) {
    const last = (await log.inSegment(at)).findLast(each => each.lsn < lsn && makesDifference(each));
    if (last !== undefined) return clamp(last.endLsn, floor, lsn);
    at -= size;
  }
  return clamp(at + size, floor, lsn);
}

function clamp(lsn: bigint, least: bigint, most: bigint): bigint {
  const raised = lsn < least ? least : lsn;
  return raised > most ? most : raised;
}

/** The first commit whose record starts at a position or behind it. */
async function firstFrom(log: LogTransactions, lsn: bigint): Promise<WalTransaction | undefined> {
  const size = BigInt(log.view.segmentSize);
  let at = segmentStart(lsn, log.view.segmentSize);
  for (let looked = 0; at < log.to && looked < EDGE_SEGMENTS; looked += 1) {
    const first = (await log.inSegment(at)).find(each => each.lsn >= lsn && isCommit(each));
    if (first !== undefined) return first;
    at += size;
  }
  return undefined;
}

/** The last commit whose record starts before a position. */
async function lastBefore(log: LogTransactions, lsn: bigint): Promise<WalTransaction | undefined> {
  const size = BigInt(log.view.segmentSize);
  let at = segmentStart(lsn < log.to ? lsn : log.to - 1n, log.view.segmentSize);
  for (let looked = 0; at >= log.first && looked < EDGE_SEGMENTS; looked += 1) {
    const last = (await log.inSegment(at)).findLast(each => each.lsn < lsn && isCommit(each));
    if (last !== undefined) return last;
    at -= size;
  }
  return undefined;
}

/** The starts of the segments of a log, the last one first. */
async function* backwards(log: LogTransactions): AsyncGenerator<bigint, void, undefined> {
  const size = BigInt(log.view.segmentSize);
  for (let lsn = log.to - size; lsn >= log.first; lsn -= size) yield lsn;
}

function isEnd(each: WalTransaction): boolean {
  return each.kind !== 'prepare';
}

function isCommit(each: WalTransaction): boolean {
  return each.kind === 'commit' || each.kind === 'commit prepared';
}

function edge(transaction: WalTransaction | undefined): EdgeTransaction | null {
  return transaction === undefined
    ? null
    : { xid: transaction.xid, timeUs: transaction.timeUs, lsn: transaction.lsn };
}
