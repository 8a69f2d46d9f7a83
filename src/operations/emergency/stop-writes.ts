import { randomBytes } from 'node:crypto';
import { hostname, userInfo } from 'node:os';
import { AppError } from '../../base/errors.ts';
import { formatCount } from '../../base/sizes.ts';
import { readPrepared } from '../../engines/postgres/write-sessions.ts';
import { watchWrites } from '../../engines/postgres/write-watch.ts';
import type { RunOptions } from '../instance-context.ts';
import { afterStop } from './after-stop.ts';
import { type ControlSession, openAsideOf, openControl } from './control-session.ts';
import type { EmergencyContext } from './emergency-context.ts';
import { type OpenStops, readOpenStops } from './open-stops.ts';
import { planStop, type StopPlan } from './plan-stop.ts';
import { proveStop } from './prove-stop.ts';
import { lockEmergency } from './stop-lock.ts';
import { isStricter, newStopId, type StopLevel, type StopRecord } from './stop-record.ts';
import type { StopReport, StopTimes } from './stop-report.ts';
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
  const startedAt = performance.now();
  using _lock = request.dryRun
    ? null
    : lockEmergency(context.settings.stateDirectory, context.instance, 'stop-writes');
  const asked = readOpenStops(context, { signal: options.signal, limitMs: REPOSITORY_LIMIT_MS });
  // It is waited for further down; until then its failure is nobody's.
  asked.catch(() => undefined);
  await using control = await openControl(context, { signal: options.signal });
  // Nothing waits for it: without it a time is missing in the report, and that is all.
  await using watch = watchWrites(control.open('watch'));
  const begun = { control, watch, startedAt, open: await asked };
  const run = await prepare(context, begun, { request, options });
  try {
    return request.dryRun ? dryReport(run) : await execute(run, request);
  } finally {
    await run.marked;
    if (run.control !== control) await run.control[Symbol.asyncDispose]();
  }
}

interface Begun {
  readonly control: ControlSession;
  readonly watch: StopRun['watch'];
  readonly startedAt: number;
  readonly open: OpenStops;
}

/** Plans, refuses, asks. Nothing is changed yet. */
async function prepare(
  context: EmergencyContext,
  { control: first, watch, startedAt, open }: Begun,
  asked: { readonly request: StopRequest; readonly options: StopOptions },
): Promise<StopRun> {
  const { request, options } = asked;
  const known = knownStop(open, first);
  const { inRecovery } = first.facts;
  if (inRecovery && known === null) throw isStandby();
  const level = known !== null && isStricter(known.level, request.level) ? known.level : request.level;
  const problems: string[] = [];
  const control = level === 'hard' ? await asideFor(context, first, { known, problems }) : first;
  const base: Omit<StopRun, 'plan' | 'local' | 'record' | 'startedAt'> = {
    ...{ context, options, action: 'stop', actions: [], problems, marked: Promise.resolve() },
    ...{ control, watch, known },
  };
  if (open.repositoryProblem !== null)
    base.problems.push(`the repository is out of reach: ${open.repositoryProblem}`);
  // A server in recovery mode needs nothing more.
  if (inRecovery && known !== null)
    return { ...base, record: known, plan: planOfRecovery(control, known), local: null, startedAt };
  try {
    const { plan, local } = await planStop(context, control, { level, known, dryRun: request.dryRun });
    base.problems.push(...plan.warnings);
    const before = performance.now();
    if (!request.dryRun) {
      refuseLosses(plan, request);
      await options.confirm(plan);
    }
    const waitedMs = performance.now() - before;
    const record = newRecord(context, { plan, known, reason: request.reason });
    return { ...base, record, plan, local, startedAt: startedAt + waitedMs };
  } catch (error) {
    if (control !== first) await control[Symbol.asyncDispose]();
    throw error;
  }
}

async function execute(run: StopRun, request: StopRequest): Promise<StopReport> {
  const since = (): number => Math.round(performance.now() - run.startedAt);
  const times: { -readonly [Name in keyof StopTimes]: StopTimes[Name] } = { ...noTimes };
  let ended: EndedSessions = { sessions: [], overriding: [] };
  if (!run.control.facts.inRecovery) await recordStop(run);
  try {
    if (!run.control.facts.inRecovery) {
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
    times.stoppedMs = since();
    const prepared = await preparedOf(run);
    const proof = await proveStop(run, ended.overriding);
    const lastWriteAt = run.watch.lastWriteAt();
    if (lastWriteAt !== null) times.lastWriteMs = Math.max(0, Math.round(lastWriteAt - run.startedAt));
    const { log, ...found } = await afterStop(run, request);
    return {
      ...reportOf(run),
      dryRun: false,
      id: run.record.id,
      stoppedAt: run.record.stoppedAt,
      already: run.known !== null,
      ended: ended.sessions,
      prepared,
      times,
      proof,
      log: log === null ? null : { detail: log.detail, archived: log.archived },
      ...found,
    };
  } catch (error) {
    if (run.options.signal.aborted) {
      const message = `Cancelled half way. ${WAY_OUT}`;
      run.options.onEvent({ type: 'note', level: 'warning', message });
    }
    throw withWayOut(error);
  }
}

const noTimes: StopTimes = {
  recordedMs: null,
  readOnlyMs: null,
  lastWriteMs: null,
  terminatedMs: null,
  stoppedMs: null,
};

/** In recovery mode none are shown, but they are those that there were before. */
async function preparedOf(run: StopRun): Promise<StopReport['prepared']> {
  return run.control.facts.inRecovery ? run.plan.prepared : await readPrepared(run.control.client);
}

function reportOf(
  run: StopRun,
): Pick<StopReport, 'instance' | 'level' | 'reason' | 'plan' | 'actions' | 'changes' | 'problems'> {
  const { context, record, plan } = run;
  return {
    instance: context.instance,
    level: record.level,
    reason: record.reason,
    plan,
    actions: run.actions,
    changes: record.changes,
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
    times: noTimes,
    proof: null,
    log: null,
    incident: null,
    recommended: null,
    outlook: null,
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
  of: { readonly known: StopRecord | null; readonly problems: string[] },
): Promise<ControlSession> {
  // What was chosen once must stay: it is the one database that is not closed.
  if (of.known?.level === 'hard' && of.known.controlDatabase === control.facts.database) return control;
  const aside = await openAsideOf(context, control);
  if (aside === null)
    of.problems.push(
      `superusers can still write in '${control.facts.database}': it is the only database that lets this program in; name another as emergency.control_database`,
    );
  return aside ?? control;
}

function planOfRecovery(control: ControlSession, known: StopRecord): StopPlan {
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

const WAY_OUT =
  'What was changed is on record: run it again to go on, or `aishell emergency resume-writes` to put it back.';

function withWayOut(error: unknown): unknown {
  if (!(error instanceof AppError)) return error;
  return new AppError(error.code, error.message, {
    ...(error.details === undefined ? {} : { details: error.details }),
    hint: error.hint === undefined ? WAY_OUT : `${error.hint} ${WAY_OUT}`,
    cause: error,
  });
}
