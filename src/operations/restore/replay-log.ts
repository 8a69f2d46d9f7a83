import { chown, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { delay } from '../../base/abort.ts';
import { AppError, fileError } from '../../base/errors.ts';
import { queryRow } from '../../engines/postgres/connection.ts';
import {
  type IsolatedServer,
  type ReachedTarget,
  type ReplayProgress,
  startIsolatedServer,
} from '../../engines/postgres/isolated-server.ts';
import { endedBeforeTarget, findLogDamage } from '../../engines/postgres/isolated-server-log.ts';
import { formatLsn, nextRecordStart, parseLsn, parseSegmentName } from '../../engines/postgres/lsn.ts';
import {
  fedRecoverySettings,
  type RecoveryTarget,
  recoverySettings,
  type Settings,
} from '../../engines/postgres/recovery-settings.ts';
import { isoTime } from '../../engines/postgres/server-facts.ts';
import type { Binaries } from '../../engines/postgres/service-binaries.ts';
import type { RunOptions } from '../instance-context.ts';
import { historyName, parseHistory } from '../log/log-view.ts';
import type { Layout } from './assemble-directory.ts';
import type { LogFeeder } from './log-feeder.ts';
import type { RecoveryPlan } from './plan-restore.ts';

export interface ReplayRequest {
  readonly plan: Pick<RecoveryPlan, 'backup' | 'timeline' | 'resolved' | 'toBackupEnd' | 'logBytes'>;
  readonly binaries: Pick<Binaries, 'postgres'>;
  /** Fills the `pg_wal` of the layout; begun by the caller, who may do so long before the files are ready. */
  readonly feeder: LogFeeder;
  /** Beside those of the recovery. */
  readonly settings?: Settings;
}

/** A server in isolation that has replayed the log to its target and is open on a new timeline. */
export interface Replayed {
  readonly server: IsolatedServer;
  /** `lsn` is where the new timeline leaves the old one. */
  readonly reached: ReachedTarget & { readonly lsn: string };
}

/** How often the feeder and the server are looked at together. */
const ATTEND_MS = 250;
/** A server that has complained of the log and stays where it is for so long has met damage. */
const STUCK_MS = 3000;

/**
 * Replays the log over a directory that holds a `backup_label`, while the log is still being fed, and opens it on a new
 * timeline, in isolation. The server waits for log that has not come yet, however long that takes, and is told when
 * there is no more: so a slow or failing storage is never taken for the end of the log. That it stopped at its target
 * is read from where the new timeline begins.
 *
 * The caller ends the server. Nothing is flushed to disk.
 *
 * @throws RECOVERY_FAILED, and what the feeder failed with
 */
export async function replayLog(
  layout: Pick<Layout, 'dataDirectory'>,
  request: ReplayRequest,
  options: RunOptions,
): Promise<Replayed> {
  const { plan, feeder } = request;
  const { dataDirectory } = layout;
  await feeder.firstFed;
  const settings = {
    ...request.settings,
    ...recoverySettings({
      target: targetOf(plan),
      timeline: plan.timeline,
      action: 'promote',
      restoreCommand: '',
    }),
    ...fedRecoverySettings,
  };
  try {
    return await replayTo(dataDirectory, { ...request, settings }, options);
  } catch (error) {
    if (plan.resolved.lsn === null || !endedBeforeTarget(error)) throw error;
    // No record lies at the target or behind it. If the log ends right there, all that was wanted has been replayed; the
    // server goes on from where it was, and where it comes to is looked at as ever.
    const withoutTarget = { ...settings, recovery_target_lsn: '' };
    return await replayTo(dataDirectory, { ...request, settings: withoutTarget }, options);
  }
}

async function replayTo(
  dataDirectory: string,
  request: ReplayRequest & { readonly settings: Settings },
  options: RunOptions,
): Promise<Replayed> {
  const { plan } = request;
  await writeSignal(dataDirectory);
  const server = await startIsolatedServer({
    dataDirectory,
    binaries: request.binaries,
    superuser: plan.backup.bootstrapSuperuser,
    disposable: true,
    // Nobody asks it anything before it is open, and it recovers faster so.
    hotStandby: false,
    signal: options.signal,
    settings: request.settings,
  });
  try {
    await untilOpen(server, request, options);
    const reached = await readReached(server, dataDirectory, options.signal);
    checkReached(plan, reached.lsn, await server.readLog());
    return { server, reached };
  } catch (error) {
    await server.stop('immediate');
    throw error;
  }
}

function targetOf(plan: ReplayRequest['plan']): RecoveryTarget {
  if (plan.toBackupEnd) return { kind: 'consistent' };
  if (plan.resolved.lsn === null) return { kind: 'latest' };
  return { kind: 'lsn', lsn: formatLsn(plan.resolved.lsn), inclusive: false };
}

/** With a standby.signal the server waits for log; with a recovery.signal it would take a missing file for the end. */
async function writeSignal(dataDirectory: string): Promise<void> {
  const path = join(dataDirectory, 'standby.signal');
  try {
    await writeFile(path, '', { mode: 0o600 });
    const { uid, gid } = await stat(dataDirectory);
    if (process.getuid?.() === 0) await chown(path, uid, gid);
    await rm(join(dataDirectory, 'recovery.signal'), { force: true });
  } catch (error) {
    throw fileError('write', path, error);
  }
}

/** Lets feeder and server work together until the server is open. */
async function untilOpen(server: IsolatedServer, request: ReplayRequest, options: RunOptions): Promise<void> {
  const { feeder, plan } = request;
  const failed = new AbortController();
  const over = new AbortController();
  const fail = (error: unknown): void => failed.abort(error);
  feeder.allFed.catch(fail);
  const tell = progressOf(plan, options);
  let segment: string | null = null;
  let movedAt = performance.now();
  const attending = attend(server, feeder, { over: over.signal, stuckMs: () => performance.now() - movedAt });
  attending.catch(fail);
  try {
    const reached = await server.waitForTarget({
      signal: AbortSignal.any([options.signal, failed.signal]),
      onProgress: progress => {
        if (progress.segment !== segment) movedAt = performance.now();
        segment = progress.segment;
        feeder.replaying(segment);
        tell(progress);
      },
    });
    if (reached.state !== 'open')
      throw new AppError('RECOVERY_FAILED', `the recovered server is ${reached.state} instead of open`);
  } finally {
    over.abort();
    await attending.catch(() => undefined);
  }
}

/** Tells the server that there is no more log once all is fed; ends where it cannot go on for damage. */
async function attend(
  server: IsolatedServer,
  feeder: LogFeeder,
  state: { readonly over: AbortSignal; readonly stuckMs: () => number },
): Promise<void> {
  let allFed = false;
  // A failure is for whoever waits for the server.
  feeder.allFed.then(
    () => {
      allFed = true;
    },
    () => undefined,
  );
  while (!state.over.aborted) {
    // It looks for this word only when it finds no more log, so it cannot come too early; but it must be up to hear it.
    if (allFed) await server.promote();
    else if (state.stuckMs() > STUCK_MS) {
      const damage = findLogDamage(await server.readLog());
      if (damage !== null)
        throw new AppError('RECOVERY_FAILED', `the log is damaged: ${damage}`, {
          hint: 'Choose a target before that position. `aishell backup verify` checks the archived log.',
        });
    }
    await delay(ATTEND_MS, state.over).catch(() => undefined);
  }
}

function progressOf(
  plan: ReplayRequest['plan'],
  { onEvent }: RunOptions,
): (progress: ReplayProgress) => void {
  const from = parseLsn(plan.backup.startLsn);
  const to = plan.resolved.lsn ?? from + BigInt(plan.logBytes);
  const totalBytes = Number(to - from);
  return ({ segment }) => {
    const at = segment === null ? null : parseSegmentName(segment, plan.backup.walSegmentSize);
    if (at === null) return;
    const doneBytes = Math.min(totalBytes, Math.max(0, Number(at.lsn - from)));
    onEvent({ type: 'progress', step: 'replay', doneBytes, totalBytes });
  };
}

/** Where the recovery ended, by the history file that the server has just written, and the last commit before. */
async function readReached(
  server: IsolatedServer,
  dataDirectory: string,
  signal: AbortSignal,
): Promise<Replayed['reached']> {
  const client = await server.connect(undefined, signal);
  const { segment, time } = await queryRow<{ segment: string; time: string | null }>(
    client,
    'ask where the recovery ended',
    {
      text: `select pg_walfile_name(pg_current_wal_insert_lsn()) as segment,
                    ${isoTime('pg_last_xact_replay_timestamp()')} as time`,
      signal,
    },
  ).finally(() => client.end().catch(() => undefined));
  const timeline = Number.parseInt(segment.slice(0, 8), 16);
  const path = join(dataDirectory, 'pg_wal', historyName(timeline));
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw fileError('read', path, error);
  });
  const begin = parseHistory(text, timeline).at(-1)?.begin ?? 0n;
  return { state: 'open', lsn: formatLsn(begin), replayTime: time };
}

/** A server that ends recovery before its target would open in the wrong state and call it success. */
function checkReached(plan: ReplayRequest['plan'], reached: string, log: string): void {
  const lsn = parseLsn(reached);
  const { backup, resolved } = plan;
  // Records follow each other without a gap, so the next one would begin at the target or behind it; or the server has
  // seen one there.
  const isReached =
    resolved.lsn === null
      ? lsn >= parseLsn(backup.stopLsn) && lsn > (resolved.lastKept?.lsn ?? 0n)
      : nextRecordStart(lsn, backup.walSegmentSize) >= resolved.lsn ||
        /recovery stopping before WAL location/.test(log);
  if (isReached) return;
  const target = resolved.lsn ?? resolved.lastKept?.lsn ?? parseLsn(backup.stopLsn);
  const damage = findLogDamage(log);
  throw new AppError(
    'RECOVERY_FAILED',
    `the recovery ended at ${reached}, before its target ${formatLsn(target)}${damage === null ? '' : ` (${damage})`}`,
    {
      hint: 'The log may be damaged after that position. Nothing was put in place of the old state.',
    },
  );
}
