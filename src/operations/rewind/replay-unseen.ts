import { chown, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { delay } from '../../base/abort.ts';
import { AppError, fileError } from '../../base/errors.ts';
import { type ControlFile, readControlFile } from '../../engines/postgres/control-file.ts';
import { readPostmasterFile } from '../../engines/postgres/data-directory.ts';
import { type IsolatedServer, startIsolatedServer } from '../../engines/postgres/isolated-server.ts';
import { endedBeforeTarget, findLogDamage } from '../../engines/postgres/isolated-server-log.ts';
import { replayedSegment } from '../../engines/postgres/isolated-server-process.ts';
import {
  formatLsn,
  nextRecordStart,
  parseLsn,
  parseSegmentName,
  segmentName,
} from '../../engines/postgres/lsn.ts';
import {
  fedRecoverySettings,
  pagesInMemory,
  type RecoveryTarget,
  recoverySettings,
} from '../../engines/postgres/recovery-settings.ts';
import type { Binaries } from '../../engines/postgres/service-binaries.ts';
import type { BackupFacts } from '../../repository/manifest.ts';
import type { RunOptions } from '../instance-context.ts';
import { historyName, parseHistory } from '../log/log-view.ts';
import type { LogFeeder } from '../restore/log-feeder.ts';
import type { Owner } from '../restore/new-files.ts';

export interface UnseenReplay {
  readonly dataDirectory: string;
  readonly backup: BackupFacts;
  readonly binaries: Pick<Binaries, 'postgres'>;
  readonly owner: Owner;
  readonly feeder: LogFeeder;
  readonly timeline: number;
  /** The replay stops before the first record that starts here or later. */
  readonly targetLsn: bigint;
  readonly logFile: string;
  /** Of the server whose log it is: settings that were raised since the backup. */
  readonly atLeast: ControlFile;
}

/** Where the rewound database goes on. */
export interface UnseenResult {
  readonly timeline: number;
  readonly lsn: bigint;
}

const ATTEND_MS = 50;
const STUCK_MS = 3000;

/**
 * Replays the log up to the target, opens on a new timeline and stops, without anybody ever connecting: so no session reads
 * a page and sets a hint in it, and every page that is changed is one that the log names. Nothing is flushed.
 *
 * Consistency is declared at the end of the backup, while pages left to the replay are still of the future: nobody could
 * read them in peace before the target anyway.
 *
 * @throws RECOVERY_FAILED, and what the feeder failed with
 */
export async function replayUnseen(replay: UnseenReplay, options: RunOptions): Promise<UnseenResult> {
  await replay.feeder.firstFed;
  const target = { kind: 'lsn', lsn: formatLsn(replay.targetLsn), inclusive: false } as const;
  try {
    return await replayTwice(replay, target, options);
  } catch (error) {
    if (!endedBeforeTarget(error)) throw error;
    // The log may end right at the target, as with --latest. It goes on from where it was, to the end, and where that is
    // is looked at as ever.
    return await replayTwice(replay, { kind: 'latest' }, options);
  }
}

/**
 * Once more, with all of the log, where files of it were written over that the server turned out to need again: those of a
 * transaction that was prepared long ago and is open at the target, or of a record longer than most logs.
 * @source twophase.c, XlogReadTwoPhaseData; xlogrecovery.c, FinishWalRecovery
 */
async function replayTwice(
  replay: UnseenReplay,
  target: RecoveryTarget,
  options: RunOptions,
): Promise<UnseenResult> {
  try {
    return await replayTo(replay, target, options);
  } catch (error) {
    options.signal.throwIfAborted();
    if (!(error instanceof AppError) || error.code !== 'RECOVERY_FAILED') throw error;
    const isFedAgain = await feedAgain(replay);
    // It has read all there is, forwards, and what was written over lies behind it.
    if (!isFedAgain || endedBeforeTarget(error)) throw error;
    const message = `the log is replayed once more, all of it: ${error.message}`;
    options.onEvent({ type: 'note', level: 'info', message });
    return await replayTo(replay, target, options);
  }
}

/** A server that is started once more begins at its last restartpoint. Whether it would have missed some of the log. */
async function feedAgain({ feeder, dataDirectory }: UnseenReplay): Promise<boolean> {
  const { checkpoint, walSegmentSize } = await readControlFile(dataDirectory);
  return await feeder.again(segmentName(checkpoint.timeline, checkpoint.redoLsn, walSegmentSize));
}

async function replayTo(
  replay: UnseenReplay,
  target: RecoveryTarget,
  options: RunOptions,
): Promise<UnseenResult> {
  const { dataDirectory } = replay;
  await writeOwn(join(dataDirectory, 'standby.signal'), '', replay.owner);
  await rm(join(dataDirectory, 'recovery.signal'), { force: true });
  const server = await startIsolatedServer({
    dataDirectory,
    binaries: replay.binaries,
    superuser: replay.backup.bootstrapSuperuser,
    disposable: true,
    hotStandby: false,
    logFile: replay.logFile,
    atLeast: replay.atLeast,
    signal: options.signal,
    settings: {
      ...recoverySettings({
        target,
        timeline: replay.timeline,
        action: 'promote',
        restoreCommand: '',
      }),
      ...fedRecoverySettings,
      ...pagesInMemory(Math.trunc(replay.backup.serverVersion / 10_000)),
    },
  });
  try {
    await untilOpen(server, replay, options);
    const log = await server.readLog();
    await server.stop('fast');
    // Said once more when it had heard it already.
    await rm(join(dataDirectory, 'promote'), { force: true });
    return await readResult(replay, log);
  } catch (error) {
    await server.stop('immediate');
    throw error;
  }
}

/** Feeds it and waits, by what the server writes down about itself, until it would take connections. */
async function untilOpen(server: IsolatedServer, replay: UnseenReplay, options: RunOptions): Promise<void> {
  const { feeder, dataDirectory } = replay;
  const state: { allFed: boolean; failure: unknown } = { allFed: false, failure: null };
  feeder.allFed.then(
    () => {
      state.allFed = true;
    },
    (error: unknown) => {
      state.failure = error ?? new AppError('LOG_NOT_FOUND', 'the log could not be fed');
    },
  );
  const tell = progressOf(replay, options);
  let segment: string | null = null;
  let movedAt = performance.now();
  for (;;) {
    options.signal.throwIfAborted();
    if (state.failure !== null) throw state.failure;
    // This throws its reasons; it would connect to a server that still runs.
    if (server.hasEnded()) await server.waitForTarget({ signal: options.signal });
    const postmaster = await readPostmasterFile(dataDirectory);
    if (postmaster?.status === 'ready') return;
    if (postmaster !== null) {
      const at = await replayedSegment(postmaster.pid);
      if (at !== segment) movedAt = performance.now();
      segment = at;
      if (at !== null && feeder.lacks(at))
        throw new AppError('RECOVERY_FAILED', `the recovery needs segment ${at} of the log once more`);
      feeder.replaying(at);
      tell(at);
    }
    // It looks for this word only when it finds no more log, so it cannot come too early; but it must be up to hear it.
    if (state.allFed && postmaster !== null) await server.promote();
    else if (performance.now() - movedAt > STUCK_MS) refuseDamage(await server.readLog());
    await delay(ATTEND_MS, options.signal);
  }
}

function refuseDamage(log: string): void {
  const damage = findLogDamage(log);
  if (damage !== null) throw new AppError('RECOVERY_FAILED', `the log is damaged: ${damage}`);
}

function progressOf(replay: UnseenReplay, { onEvent }: RunOptions): (segment: string | null) => void {
  const from = parseLsn(replay.backup.startLsn);
  const totalBytes = Number(replay.targetLsn - from);
  return segment => {
    const at = segment === null ? null : parseSegmentName(segment, replay.backup.walSegmentSize);
    if (at === null) return;
    const doneBytes = Math.min(totalBytes, Math.max(0, Number(at.lsn - from)));
    onEvent({ type: 'progress', step: 'replay', doneBytes, totalBytes });
  };
}

/** @throws RECOVERY_FAILED when it ended before its target, as a damaged log makes it */
async function readResult(replay: UnseenReplay, log: string): Promise<UnseenResult> {
  const control = await readControlFile(replay.dataDirectory);
  const { timeline } = control.checkpoint;
  const path = join(replay.dataDirectory, 'pg_wal', historyName(timeline));
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw fileError('read', path, error);
  });
  const begin = parseHistory(text, timeline).at(-1)?.begin ?? 0n;
  const isAtTarget =
    nextRecordStart(begin, control.walSegmentSize) >= replay.targetLsn ||
    /recovery stopping before WAL location/.test(log);
  if (control.state === 'shut down' && timeline > replay.timeline && isAtTarget)
    return { timeline, lsn: begin };
  const damage = findLogDamage(log);
  throw new AppError(
    'RECOVERY_FAILED',
    `the recovery ended at ${formatLsn(begin)}, before its target ${formatLsn(replay.targetLsn)}${damage === null ? '' : ` (${damage})`}`,
    { details: { state: control.state, timeline } },
  );
}

async function writeOwn(path: string, content: string, owner: Owner): Promise<void> {
  try {
    await writeFile(path, content, { mode: 0o600 });
    if (owner !== null) await chown(path, owner.uid, owner.gid);
  } catch (error) {
    throw fileError('write', path, error);
  }
}
