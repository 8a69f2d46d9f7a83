import { AppError } from '../../base/errors.ts';
import { formatMoment } from '../../base/moment.ts';
import { formatLsn, nextSegment, parseLsn, segmentStart } from '../../engines/postgres/lsn.ts';
import type { BackupFacts } from '../../repository/manifest.ts';
import { listBackupIds, type Manifest, openManifest } from '../../repository/manifest-reader.ts';
import { findBackup } from '../backup/list-backups.ts';
import type { InstanceContext } from '../instance-context.ts';
import { withLiveTail } from '../log/live-tail.ts';
import { type LogSource, type LogTransactions, logTransactions } from '../log/log-transactions.ts';
import type { LogView } from '../log/log-view.ts';
import { openLogView } from '../log/log-view.ts';
import type { LossAccount } from '../timeline/account-of-loss.ts';
import { findDescribedChange } from '../timeline/find-described-change.ts';
import { isDamage } from '../verify/verify-problem.ts';
import { commitOfIncident } from './incident-target.ts';
import { logFilesFor, type NeededLogFile } from './needed-log.ts';
import type { RecoveryRequest, ResolvedTarget } from './recovery-request.ts';
import { type FoundCommit, resolveTarget, type UnplacedTransaction } from './resolve-target.ts';

/** What a recovery reads and where it stops. Plain facts: it can be printed, drawn and checked. */
export interface RecoveryPlan {
  readonly backup: BackupFacts;
  readonly manifest: Manifest;
  readonly request: RecoveryRequest;
  readonly resolved: ResolvedTarget;
  /** True: stop as soon as the backup is consistent. */
  readonly toBackupEnd: boolean;
  readonly timeline: number;
  /** Why backups that might have been a better base were left out: they are damaged. */
  readonly passedOver: readonly string[];
  /** Log files that go into pg_wal: archived name, and the name the server looks for. */
  readonly logFiles: readonly NeededLogFile[];
  readonly backupBytes: number;
  readonly logBytes: number;
  /** The archived log along the timeline. */
  readonly view: LogView;
  /** What was committed behind the target; null when nobody counted, or nothing was. */
  readonly loss: LossAccount | null;
}

export interface PlanOptions {
  /** Null: the newest in the archive. */
  readonly timeline: number | null;
  /** Null: of the newest backup. */
  readonly systemIdentifier: string | null;
  /** Everything the live server had written by then is archived: microseconds since 1970. Null: nobody knows. */
  readonly securedUs: bigint | null;
  /** A live server whose pg_wal counts as log: for a dry run, which archives nothing. */
  readonly tail?: { readonly dataDirectory: string; readonly timeline: number } | null;
  readonly signal: AbortSignal;
}

/**
 * Chooses the backup and the log for a target, and refuses what cannot be reached, saying what can.
 *
 * @throws TARGET_UNREACHABLE, BACKUP_NOT_FOUND, LOG_NOT_FOUND, CORRUPT
 */
export async function planRecovery(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  request: RecoveryRequest,
  options: PlanOptions,
): Promise<RecoveryPlan> {
  const { signal } = options;
  if (request.kind === 'backup') {
    const manifest = await findBackup(context, request.id, signal);
    const view = await viewFor(context, [manifest], { ...options, timeline: manifest.backup.timeline });
    return finish({
      manifest,
      view,
      request,
      resolved: { lsn: null, lastKept: null, firstDropped: null, found: null },
      to: parseLsn(manifest.backup.stopLsn),
      passedOver: [],
    });
  }
  const opened = await openBackups(context, signal);
  const manifests = opened.manifests.filter(
    each => options.systemIdentifier === null || each.backup.systemIdentifier === options.systemIdentifier,
  );
  const newest = manifests[0];
  if (newest === undefined) {
    if (opened.damaged[0] !== undefined) throw opened.damaged[0];
    throw new AppError(
      'TARGET_UNREACHABLE',
      `there is no backup of instance '${context.instance}'${options.systemIdentifier === null ? '' : ' of this database system'}`,
      {
        hint: 'Without a backup nothing can be restored. `aishell backup create` takes one.',
      },
    );
  }
  const view = await viewFor(context, manifests, {
    ...options,
    systemIdentifier: options.systemIdentifier ?? newest.backup.systemIdentifier,
  });
  // By the log, not by their ids: a clock that was put back has given a later backup an earlier one.
  const usable = manifests
    .filter(each => isOnChain(each.backup, view))
    .toSorted((a, b) => (parseLsn(a.backup.stopLsn) < parseLsn(b.backup.stopLsn) ? 1 : -1));
  if (request.kind === 'time' && request.timeUs > BigInt(Date.now()) * 1000n) {
    throw new AppError(
      'TARGET_UNREACHABLE',
      `unable to recover to ${formatMoment(request.timeUs)}: it is in the future`,
      { hint: 'Times without a zone are UTC; give one, like 2025-10-27T13:59:59+01:00.' },
    );
  }
  const chosen = await choose({ context, view, usable, request, securedUs: options.securedUs, signal });
  return finish({ ...chosen, view, request, passedOver: opened.damaged.map(each => each.message) });
}

interface Chosen {
  readonly manifest: Manifest;
  readonly resolved: ResolvedTarget;
  /** The log must reach this far. */
  readonly to: bigint;
}

interface Candidates {
  readonly context: Pick<InstanceContext, 'instance' | 'repository'>;
  readonly view: LogView;
  /** Newest first. */
  readonly usable: readonly Manifest[];
  readonly request: Exclude<RecoveryRequest, { kind: 'backup' }>;
  readonly securedUs: bigint | null;
  readonly signal: AbortSignal;
}

async function choose(candidates: Candidates): Promise<Chosen> {
  const { context, request, usable, view, signal } = candidates;
  if (request.kind === 'incident')
    return chooseBySearch(candidates, await commitOfIncident({ ...context, view }, request, signal));
  if (request.kind === 'xid' || request.kind === 'restore point') return chooseBySearch(candidates, request);
  if (request.kind === 'change') {
    const span = searchedSpan(candidates);
    return chooseBySearch(
      candidates,
      await findDescribedChange(context, { view, ...span, ...request }, signal),
    );
  }
  const fits = (backup: BackupFacts): boolean =>
    request.kind === 'latest' ||
    (request.kind === 'time'
      ? timeUs(backup.stopTime) <= request.timeUs
      : parseLsn(backup.stopLsn) <= request.lsn);
  for (const manifest of usable.filter(each => fits(each.backup))) {
    const log = usableLog({ ...context, view }, manifest.backup, signal);
    if (log === null) return chooseWithoutLog(manifest, request);
    const floor = parseLsn(manifest.backup.stopLsn);
    const resolved = await resolveTarget(log, request, { securedUs: candidates.securedUs, floor });
    // A clock that was set may have the backup end before the time, and behind its position.
    if (resolved === null) continue;
    if (request.kind === 'latest' && view.end !== null && log.to < view.end) throw inGap(view, log, resolved);
    if (resolved.lsn !== null && resolved.lsn >= log.to) throw beyondLog(view, log, formatLsn(resolved.lsn));
    return { manifest, resolved, to: resolved.lsn === null ? log.to : afterTarget(resolved.lsn, log) };
  }
  throw beforeFirst(usable);
}

/** The newest backup that ended before what has to be found in the log. */
async function chooseBySearch(
  candidates: Candidates,
  request: Extract<RecoveryRequest, { kind: 'restore point' }> | UnplacedTransaction | FoundCommit,
): Promise<Chosen> {
  const { securedUs } = candidates;
  let missing: unknown = beforeFirst(candidates.usable);
  for (const manifest of candidates.usable) {
    const log = usableLog(
      { ...candidates.context, view: candidates.view },
      manifest.backup,
      candidates.signal,
    );
    if (log === null) continue;
    try {
      const floor = parseLsn(manifest.backup.stopLsn);
      const resolved = await resolveTarget(log, request, { securedUs, floor });
      if (resolved !== null)
        return { manifest, resolved, to: resolved.lsn === null ? log.to : afterTarget(resolved.lsn, log) };
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'LOG_NOT_FOUND') throw error;
      missing = error;
    }
  }
  throw missing;
}

/** The log without a gap that ends where that of the newest backup ends, as far back as there is a backup to use it. */
function searchedSpan({ context, usable, view, signal }: Candidates): {
  readonly from: bigint;
  readonly to: bigint;
} {
  let span: { readonly from: bigint; readonly to: bigint } | null = null;
  for (const { backup } of usable) {
    const from = parseLsn(backup.startLsn);
    if (span === null) span = usableLog({ ...context, view }, backup, signal);
    else if (view.firstMissing(from) >= span.to) span = { from, to: span.to };
  }
  if (span === null) throw beforeFirst(usable);
  return { from: span.from, to: span.to };
}

/** A backup that carries its own log can be restored to its end, and no further. */
function chooseWithoutLog(manifest: Manifest, request: RecoveryRequest): Chosen {
  const { backup } = manifest;
  if (request.kind !== 'latest' || !backup.logIncluded) {
    throw new AppError(
      'TARGET_UNREACHABLE',
      `unable to recover beyond the end of backup '${backup.id}': no log after it is archived`,
      {
        hint: `It can be restored as it was at ${backup.stopTime}: --backup-id ${backup.id}`,
      },
    );
  }
  return {
    manifest,
    resolved: { lsn: null, lastKept: null, firstDropped: null, found: null },
    to: parseLsn(backup.stopLsn),
  };
}

/** The archived log from a backup's start on, as far as there is no gap; null when it does not even reach the backup's end. */
function usableLog(source: LogSource, backup: BackupFacts, signal: AbortSignal): LogTransactions | null {
  const { view } = source;
  const from = parseLsn(backup.startLsn);
  const to = view.firstMissing(from);
  if (to >= parseLsn(backup.stopLsn)) return logTransactions(source, { from, to }, signal);
  if (backup.logIncluded && view.nameAt(from) === null) {
    // Its own log lies in the backup; the archive may go on behind it.
    const next = segmentStart(parseLsn(backup.stopLsn), view.segmentSize);
    const end = view.firstMissing(next);
    return end > next ? logTransactions(source, { from: next, to: end }, signal) : null;
  }
  if (backup.logIncluded) return null;
  throw new AppError(
    'TARGET_UNREACHABLE',
    `unable to use backup '${backup.id}': log segment '${view.expectedName(to)}' is missing from the archive`,
    {
      hint: 'A backup needs the log from its start to its end. Use another backup (`aishell backup list`).',
      details: { missing: view.expectedName(to) },
    },
  );
}

function beyondLog(view: LogView, log: LogTransactions, wanted: string): AppError {
  return new AppError(
    'TARGET_UNREACHABLE',
    `unable to recover to ${wanted}: the archived log ends at ${formatLsn(log.to)}, where segment '${view.expectedName(log.to)}' is missing`,
    {
      hint: 'Use --latest for the end of the log, or bring the missing segment into the archive with `aishell backup wal-archive`.',
      details: { missing: view.expectedName(log.to), end: formatLsn(log.to) },
    },
  );
}

/** The end of the log lies beyond a hole: what is before it must not pass for the end. */
function inGap(view: LogView, log: LogTransactions, { lastKept }: ResolvedTarget): AppError {
  const name = view.expectedName(log.to);
  return new AppError(
    'TARGET_UNREACHABLE',
    `unable to recover to the end of the log: segment '${name}' is missing from the archive, and the log goes on behind it`,
    {
      hint:
        lastKept === null
          ? 'Bring the missing segment into the archive with `aishell backup wal-archive`, or use a later backup.'
          : `The last transaction before it can be reached with: --point-in-time "${formatMoment(lastKept.timeUs)}". Or bring the missing segment into the archive with \`aishell backup wal-archive\`.`,
      details: { missing: name, end: formatLsn(log.to) },
    },
  );
}

/** The segment of the record at the target, and one more: the record may go on in it. */
function afterTarget(lsn: bigint, log: LogTransactions): bigint {
  const to = nextSegment(nextSegment(lsn, log.view.segmentSize), log.view.segmentSize);
  return to < log.to ? to : log.to;
}

function finish(
  chosen: Chosen & {
    readonly view: LogView;
    readonly request: RecoveryRequest;
    readonly passedOver: readonly string[];
  },
): RecoveryPlan {
  const { manifest, view, request, resolved } = chosen;
  const { backup } = manifest;
  const logFiles = logFilesFor(view, backup, chosen.to);
  return {
    backup,
    manifest,
    request,
    resolved,
    timeline: view.timeline,
    passedOver: chosen.passedOver,
    logFiles,
    toBackupEnd: request.kind === 'backup',
    backupBytes: backup.sizeBytes,
    logBytes: logFiles.reduce((sum, file) => sum + file.sizeBytes, 0),
    view,
    loss: null,
  };
}

/** A backup can be a base for the followed timeline when it ended on it, or on an ancestor before that was left. */
function isOnChain(backup: BackupFacts, view: LogView): boolean {
  const index = view.chain.findIndex(step => step.timeline === backup.timeline);
  if (index < 0 || backup.systemIdentifier !== view.owner.systemIdentifier) return false;
  const left = view.chain[index + 1]?.begin;
  return left === undefined || parseLsn(backup.stopLsn) <= left;
}

async function viewFor(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  manifests: readonly Manifest[],
  options: {
    readonly timeline: number | null;
    readonly systemIdentifier: string | null;
    readonly tail?: PlanOptions['tail'];
    readonly signal: AbortSignal;
  },
): Promise<LogView> {
  const newest = manifests[0]!.backup;
  const systemIdentifier = options.systemIdentifier ?? newest.systemIdentifier;
  const view = await openLogView(
    context.repository,
    {
      owner: { instance: context.instance, systemIdentifier },
      segmentSize: newest.walSegmentSize,
      timeline: options.timeline,
      backupTimelines: manifests
        .filter(each => each.backup.systemIdentifier === systemIdentifier)
        .map(each => each.backup.timeline),
    },
    options.signal,
  );
  return options.tail == null ? view : withLiveTail(view, options.tail);
}

/** Backups that open, newest first; damaged ones are told of: they are no base for anything, but others may do. */
async function openBackups(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  signal: AbortSignal,
): Promise<{ readonly manifests: readonly Manifest[]; readonly damaged: readonly AppError[] }> {
  const manifests: Manifest[] = [];
  const damaged: AppError[] = [];
  for (const id of await listBackupIds(context.repository, context.instance, { signal })) {
    try {
      const manifest = await openManifest(context.repository, { instance: context.instance, id }, { signal });
      if (manifest !== null) manifests.unshift(manifest);
    } catch (error) {
      if (!isDamage(error)) throw error;
      damaged.push(error);
    }
  }
  return { manifests, damaged };
}

function beforeFirst(usable: readonly Manifest[]): AppError {
  const oldest = usable.at(-1)?.backup;
  return new AppError(
    'TARGET_UNREACHABLE',
    'unable to recover to this target: it lies before the end of the first backup',
    {
      hint:
        oldest === undefined
          ? 'No backup belongs to this timeline; choose another with --timeline.'
          : `The earliest moment that can be reached is ${oldest.stopTime} (${oldest.stopLsn}), the end of backup ${oldest.id}.`,
    },
  );
}

/** Microseconds since 1970 of a server's ISO time. */
export function timeUs(iso: string): bigint {
  const match = /^(.*?)(?:\.(\d{1,6}))?(Z|[+-]\d\d:?\d\d)$/.exec(iso);
  const fraction = (match?.[2] ?? '').padEnd(6, '0');
  return BigInt(Date.parse(`${match?.[1] ?? iso}${match?.[3] ?? ''}`)) * 1000n + BigInt(fraction);
}
