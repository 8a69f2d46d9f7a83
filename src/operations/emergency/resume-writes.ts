import { AppError, messageOf } from '../../base/errors.ts';
import { counted, formatCount } from '../../base/sizes.ts';
import { canWrite } from '../../engines/postgres/write-watch.ts';
import { putResumed } from '../../repository/emergency-archive.ts';
import type { RunOptions } from '../instance-context.ts';
import { type ControlSession, openControl } from './control-session.ts';
import type { EmergencyContext } from './emergency-context.ts';
import { leaveRecovery } from './leave-recovery.ts';
import { switchMaintenanceOff } from './maintenance-page.ts';
import { readOpenStops } from './open-stops.ts';
import {
  outcomeProblem,
  type PutBack,
  putBackServer,
  type ResumeRun,
  waitUntilAsBefore,
  wasReadOnly,
} from './put-back.ts';
import { removeJournal } from './stop-journal.ts';
import { lockEmergency } from './stop-lock.ts';
import type { StopLevel, StopRecord } from './stop-record.ts';
import type { StopAction } from './stop-report.ts';
import { type EmergencyRun, runEmergencyStep } from './stop-run.ts';

export interface ResumeReport {
  readonly instance: string;
  /** False: writes were not stopped, there was nothing to put back. */
  readonly resumed: boolean;
  /** Of the stops that were put back, the newest first. */
  readonly stops: readonly { readonly id: string; readonly level: StopLevel; readonly stoppedAt: string }[];
  readonly resumedAt: string | null;
  readonly actions: readonly StopAction[];
  readonly changes: readonly PutBack[];
  /** A transaction could begin to write, in the instance's own database. */
  readonly writable: boolean | null;
  readonly seconds: number;
  /** What needs attention: exit code 3. */
  readonly problems: readonly string[];
}

/**
 * Puts back everything that stops of writes have changed, as their records say it was. Cut short, it is run again; run
 * once more, it finds nothing to do.
 *
 * @throws LOCKED DATABASE_UNREACHABLE DATABASE_DENIED SERVICE_FAILED SYSTEM_MISMATCH; STORAGE_UNREACHABLE when neither
 * this machine nor the repository can say what was changed
 */
export async function resumeWrites(context: EmergencyContext, options: RunOptions): Promise<ResumeReport> {
  const startedAt = performance.now();
  const { stateDirectory } = context.settings;
  using _lock = lockEmergency(stateDirectory, context.instance, 'resume-writes');
  const open = await readOpenStops(context, { signal: options.signal });
  if (open.records.length === 0) {
    // Gives the repository's own error, when it is that which does not answer.
    if (open.repositoryProblem !== null) await context.open();
    return nothing(context, startedAt);
  }
  const problems =
    open.repositoryProblem === null ? [] : [`the repository is out of reach: ${open.repositoryProblem}`];
  const actions: StopAction[] = [];
  const outcomes: PutBack[] = [];
  const runs = open.records.map(
    (record): ResumeRun => ({
      ...{ context, options, action: 'resume', record, actions, problems },
      marked: Promise.resolve(),
      outcomes: new Map(),
    }),
  );
  for (const run of runs) {
    await resumeOne(run);
    outcomes.push(...run.outcomes.values());
  }
  problems.push(...outcomes.map(outcomeProblem).filter(problem => problem !== null));
  const last = runs[0]!;
  const writable = await proveWritable(last);
  if (!writable && !open.records.some(wasReadOnly))
    problems.push('everything is as it was, and yet a new transaction cannot write');
  const isWhole = outcomes.every(({ outcome }) => outcome !== 'failed');
  if (isWhole || writable) for (const run of runs) await hideMaintenance(run);
  await last.marked;
  const report = {
    instance: context.instance,
    resumed: true,
    stops: open.records.map(({ id, level, stoppedAt }) => ({ id, level, stoppedAt })),
    resumedAt: new Date().toISOString(),
    actions,
    changes: outcomes,
    writable,
  };
  if (isWhole) {
    await closeRecords(last, open.records, report);
    await tellOfEnd(last, open.records);
  } else {
    // What is left is known from the record alone.
    problems.push(
      'the stop stays on record: run `aishell emergency resume-writes` again when that can be done',
    );
  }
  return { ...report, seconds: (performance.now() - startedAt) / 1000, problems };
}

async function resumeOne(run: ResumeRun): Promise<void> {
  const { record, options } = run;
  if (record.changes.some(change => change.kind === 'standby-signal')) await leaveRecovery(run);
  await using control = await openControl(run.context, {
    known: record.controlDatabase,
    signal: options.signal,
  });
  assertSameSystem(record, control);
  const detail = (): string => {
    const count = (of: PutBack['outcome']): number =>
      [...run.outcomes.values()].filter(({ outcome }) => outcome === of).length;
    const failed = count('failed');
    const left = failed === 0 ? '' : `, ${formatCount(failed)} could not be`;
    return `${counted(count('restored'), 'change')} put back${left}`;
  };
  await runEmergencyStep(run, { id: 'put-back', title: 'Everything is as it was', detail }, () =>
    putBackServer(run, control),
  );
  await runEmergencyStep(run, { id: 'reload', title: 'The server has taken it up' }, () =>
    waitUntilAsBefore(run, control),
  );
  await run.marked;
}

function assertSameSystem(record: StopRecord, control: ControlSession): void {
  if (record.systemIdentifier === control.facts.systemIdentifier) return;
  throw new AppError(
    'SYSTEM_MISMATCH',
    `the record of stopped writes is of system ${record.systemIdentifier}, and this server is ${control.facts.systemIdentifier}`,
    { hint: 'Nothing was changed. Check `connection` of the instance in aishell.yaml.' },
  );
}

/** Whether a transaction of the instance's own database gets a number, which is what every write begins with. */
async function proveWritable(run: EmergencyRun): Promise<boolean> {
  const step = {
    id: 'verify',
    title: 'Asked whether a transaction can write',
    detail: (yes: boolean) => (yes ? 'it can' : 'it cannot'),
  };
  return await runEmergencyStep(run, step, async () => {
    const control = await openControl(run.context, { signal: run.options.signal });
    await using _closed = control;
    const client = await control.open('look');
    try {
      return await canWrite(client);
    } finally {
      await client.end().catch(() => undefined);
    }
  });
}

async function hideMaintenance(run: ResumeRun): Promise<void> {
  for (const change of run.record.changes) {
    if (change.kind !== 'maintenance-file') continue;
    const step = {
      id: 'maintenance-page',
      title: 'Maintenance page switched off',
      detail: (text: string) => text,
    };
    await runEmergencyStep(run, step, async () => {
      try {
        return pageTexts[await switchMaintenanceOff(change.path, run.record)];
      } catch (error) {
        run.problems.push(`the maintenance page is still on: ${messageOf(error)}`);
        return 'failed';
      }
    });
  }
}

const pageTexts = {
  on: 'removed',
  off: 'it was off',
  'not ours': 'left: it was not made by this stop',
} as const;

/** First the repository, then this machine: cut short in between, the next run finds that it is over. */
async function closeRecords(
  run: EmergencyRun,
  records: readonly StopRecord[],
  report: object,
): Promise<void> {
  const { context, problems } = run;
  try {
    const { repository } = await context.open();
    for (const { id } of records)
      await putResumed(repository, { instance: context.instance, stop: id }, report);
  } catch (error) {
    problems.push(
      `the repository still has the record of this stop: ${messageOf(error)}; run resume-writes once more when it is in reach`,
    );
  }
  await removeJournal(context.settings.stateDirectory, context.instance);
}

async function tellOfEnd(run: EmergencyRun, records: readonly StopRecord[]): Promise<void> {
  const { context, problems } = run;
  for (const { id, stoppedAt } of records) {
    const told = await context.tell({
      severity: 'info',
      title: `Writes of '${context.instance}' are possible again`,
      facts: [['Stopped', stoppedAt]],
      commands: [],
      ...{ stop: id, incident: null, isEnd: true },
    });
    problems.push(...told.problems);
  }
}

function nothing(context: EmergencyContext, startedAt: number): ResumeReport {
  return {
    instance: context.instance,
    resumed: false,
    stops: [],
    resumedAt: null,
    actions: [],
    changes: [],
    writable: null,
    seconds: (performance.now() - startedAt) / 1000,
    problems: [],
  };
}
