import { randomBytes } from 'node:crypto';
import { hostname, userInfo } from 'node:os';
import { AppError } from '../../base/errors.ts';
import { formatCount } from '../../base/sizes.ts';
import { readPrepared } from '../../engines/postgres/write-sessions.ts';
import { type WriteWatch, watchWrites } from '../../engines/postgres/write-watch.ts';
import type { RunOptions } from '../instance-context.ts';
import { afterStop } from './after-stop.ts';
import { type ControlSession, openAsideOf, openControl } from './control-session.ts';
import type { EmergencyContext } from './emergency-context.ts';
import { type OpenStops, readOpenStops } from './open-stops.ts';
import { planStop, type StopPlan } from './plan-stop.ts';
import { proveStop } from './prove-stop.ts';
import { lockEmergency } from './stop-lock.ts';
import { isStricter, newStopId, type StopLevel, type StopRecord } from './stop-record.ts';
import type { StopReport } from './stop-report.ts';
import type { StopRun } from './stop-run.ts';
import {
  closeDatabases,
  disableSubscriptions,
  type EndedSessions,
  endWriters,
  makeReadOnly,
  REPOSITORY_LIMIT_MS,
  recordStop,
  showMaintenance,
  stopAutovacuum,
} from './stop-steps.ts';
import { restartInRecovery } from './strict-steps.ts';

export interface StopRequest {
  readonly level: StopLevel;
  readonly reason: string | null;
  readonly dryRun: boolean;
  readonly backup: boolean;
  /** Level strict may empty unlogged tables. */
  readonly loseUnlogged: boolean;
}

export interface StopOptions extends RunOptions {
  /** Asked when it is known what would be changed, and nothing is. @throws CONFIRMATION_REQUIRED */
  confirm(plan: StopPlan): Promise<void>;
}

/**
 * Stops the writes of an instance. What will be changed is on record before it is changed, so `resumeWrites` can put it
 * back wherever this was cut short; called again it goes on from there. What cannot be stopped at this level is a problem
 * in the report, found by watching the server afterwards.
 *
 * @throws LOCKED STOP_REFUSED DATABASE_DENIED DATABASE_UNREACHABLE SERVICE_FAILED CONFIRMATION_REQUIRED
 */
export async function stopWrites(
  context: EmergencyContext,
  request: StopRequest,
  options: StopOptions,
): Promise<StopReport> {
  let startedAt = performance.now();
  await using _lock = request.dryRun
    ? null
    : await lockEmergency(context.settings.stateDirectory, context.instance, 'stop-writes');
  const asked = readOpenStops(context, { signal: options.signal, limitMs: REPOSITORY_LIMIT_MS });
  asked.catch(() => undefined);
  const first = await openControl(context, { signal: options.signal });
  let control = first;
  let watch: WriteWatch | null = null;
  try {
    const opened = first.open('watch').then(watchWrites, () => null);
    const open = await asked;
    watch = await opened;
    const known = knownStop(open, first);
    const level = known !== null && isStricter(known.level, request.level) ? known.level : request.level;
    const already = known !== null && first.facts.inRecovery;
    if (first.facts.inRecovery && known === null) throw isStandby();
    if (level === 'hard') control = await asideFor(context, first, known);
    const planned = already
      ? null
      : await planStop(context, control, { level, known, dryRun: request.dryRun });
    const plan = planned?.plan ?? (await planOfRecovery(control, known!));
    if (!request.dryRun && !already) {
      const waited = performance.now();
      refuseLosses(plan, request);
      await options.confirm(plan);
      startedAt += performance.now() - waited;
    }
    const record = already ? known! : newRecord(context, { plan, known, reason: request.reason });
    const run: StopRun = {
      context,
      options,
      action: 'stop',
      record,
      actions: [],
      problems: [
        ...plan.warnings,
        ...(open.repositoryProblem === null
          ? []
          : [`the repository is out of reach: ${open.repositoryProblem}`]),
      ],
      marked: Promise.resolve(),
      plan,
      local: planned?.local ?? null,
      control,
      watch,
      startedAt,
    };
    try {
      return request.dryRun ? dryReport(run) : await execute(run, { request, already, known });
    } finally {
      control = run.control;
      await run.marked;
    }
  } finally {
    await watch?.stop();
    await first[Symbol.asyncDispose]();
    await control[Symbol.asyncDispose]();
  }
}

async function execute(
  run: StopRun,
  {
    request,
    already,
    known,
  }: { readonly request: StopRequest; readonly already: boolean; readonly known: StopRecord | null },
): Promise<StopReport> {
  const since = (): number => Math.round(performance.now() - run.startedAt);
  const times = {
    recordedMs: null as number | null,
    readOnlyMs: null as number | null,
    terminatedMs: null as number | null,
  };
  let ended: EndedSessions = { sessions: [], overriding: [] };
  try {
    if (!already) {
      await recordStop(run);
      times.recordedMs = since();
      await showMaintenance(run);
      await makeReadOnly(run);
      times.readOnlyMs = since();
      await disableSubscriptions(run);
      await closeDatabases(run);
      ended = await endWriters(run);
      times.terminatedMs = since();
      await stopAutovacuum(run);
      if (run.record.level === 'strict') await restartInRecovery(run);
    }
    const stoppedMs = since();
    const prepared = already ? [] : await preparedOf(run);
    const proof = await proveStop(run, ended.overriding);
    const lastWriteAt = run.watch?.lastWriteAt() ?? null;
    const { log, backupId } = await afterStop(run, request);
    return {
      ...reportOf(run),
      dryRun: false,
      id: run.record.id,
      stoppedAt: run.record.stoppedAt,
      already: known !== null,
      ended: ended.sessions,
      prepared,
      times: {
        ...times,
        stoppedMs,
        lastWriteMs: lastWriteAt === null ? null : Math.max(0, Math.round(lastWriteAt - run.startedAt)),
      },
      proof,
      log: log === null ? null : { detail: log.detail, archived: log.archived },
      backupId,
    };
  } catch (error) {
    throw withWayOut(error);
  }
}

/** In recovery mode none are shown, but they are those that there were before. */
async function preparedOf(run: StopRun): Promise<StopReport['prepared']> {
  return run.control.facts.inRecovery ? run.plan.prepared : await readPrepared(run.control.client);
}

function reportOf(
  run: StopRun,
): Omit<
  StopReport,
  'dryRun' | 'id' | 'stoppedAt' | 'already' | 'ended' | 'prepared' | 'times' | 'proof' | 'log' | 'backupId'
> {
  const { context, record, plan } = run;
  return {
    instance: context.instance,
    level: record.level,
    reason: record.reason,
    plan,
    actions: run.actions,
    changes: record.changes,
    recommended: null,
    problems: run.problems,
  };
}

function dryReport(run: StopRun): StopReport {
  return {
    ...reportOf(run),
    dryRun: true,
    id: null,
    stoppedAt: null,
    already: false,
    ended: [],
    prepared: run.plan.prepared,
    times: { recordedMs: null, readOnlyMs: null, lastWriteMs: null, terminatedMs: null, stoppedMs: null },
    proof: null,
    log: null,
    backupId: null,
  };
}

/** The newest stop that is in force on this very server; another system's is another's. */
function knownStop(open: OpenStops, control: ControlSession): StopRecord | null {
  return open.records.find(record => record.systemIdentifier === control.facts.systemIdentifier) ?? null;
}

/** The session that stays when the databases are closed. Without a better place it is where it is, and says so. */
async function asideFor(
  context: EmergencyContext,
  control: ControlSession,
  known: StopRecord | null,
): Promise<ControlSession> {
  // What was chosen once must stay: it is the one database that is not closed.
  if (known?.level === 'hard' && known.controlDatabase === control.facts.database) return control;
  return (await openAsideOf(context, control)) ?? control;
}

/** A server in recovery mode needs nothing more. */
async function planOfRecovery(control: ControlSession, known: StopRecord): Promise<StopPlan> {
  return {
    instance: known.instance,
    level: known.level,
    serverVersion: control.facts.version,
    systemIdentifier: known.systemIdentifier,
    controlDatabase: known.controlDatabase,
    changes: known.changes,
    endsAllSessions: false,
    sessions: null,
    prepared: [],
    unlogged: [],
    service: null,
    warnings: [],
  };
}

function newRecord(
  context: EmergencyContext,
  of: { readonly plan: StopPlan; readonly known: StopRecord | null; readonly reason: string | null },
): StopRecord {
  const { plan, known } = of;
  const now = new Date();
  return {
    format: 1,
    id: known?.id ?? newStopId(now, randomBytes(3)),
    sequence: (known?.sequence ?? 0) + 1,
    instance: context.instance,
    systemIdentifier: plan.systemIdentifier,
    level: plan.level,
    reason: of.reason ?? known?.reason ?? null,
    stoppedAt: known?.stoppedAt ?? now.toISOString(),
    by: { user: userInfo().username, host: hostname() },
    toolVersion: context.toolVersion,
    controlDatabase: plan.controlDatabase,
    changes: plan.changes,
  };
}

function refuseLosses(plan: StopPlan, request: StopRequest): void {
  if (plan.unlogged.length === 0 || request.loseUnlogged) return;
  const some = plan.unlogged.slice(0, 5).join(', ');
  const more = plan.unlogged.length > 5 ? ` and ${formatCount(plan.unlogged.length - 5)} more` : '';
  throw new AppError(
    'STOP_REFUSED',
    `unable to stop writes at level strict: it would empty the unlogged tables ${some}${more}`,
    {
      hint: 'Nothing was changed. A restart into recovery mode empties them, as a crash does. Use --level hard, or allow it with --lose-unlogged.',
      details: { tables: plan.unlogged },
    },
  );
}

function isStandby(): AppError {
  return new AppError(
    'STOP_REFUSED',
    'unable to stop writes: this server is a standby, nobody can write to it',
    {
      hint: 'Stop the writes of its primary.',
    },
  );
}

function withWayOut(error: unknown): unknown {
  if (!(error instanceof AppError)) return error;
  const hint =
    'What was changed is on record: run it again to go on, or `aishell emergency resume-writes` to put it back.';
  return new AppError(error.code, error.message, {
    ...(error.details === undefined ? {} : { details: error.details }),
    hint: error.hint === undefined ? hint : `${error.hint} ${hint}`,
    cause: error,
  });
}
