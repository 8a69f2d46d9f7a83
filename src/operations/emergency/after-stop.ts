import { messageOf } from '../../base/errors.ts';
import { readServerFacts } from '../../engines/postgres/server-facts.ts';
import { createBackup } from '../backup/create-backup.ts';
import type { Incident } from '../incident/incident.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type SecuredLog, secureRunningLog, secureStoppedLog } from '../log/secure-live-log.ts';
import { recoveryOutlook } from '../recovery-time/recovery-outlook.ts';
import { archivingOf } from '../server-picture.ts';
import { addStopEvents, findCause, recommendedFor } from './stop-incident.ts';
import type { StopReport } from './stop-report.ts';
import { runEmergencyStep, type StopRun } from './stop-run.ts';
import { tellOfStop } from './tell-of-stop.ts';

const ARCHIVE_LIMIT_MS = 30_000;

export type AfterStop = Pick<StopReport, 'incident' | 'recommended' | 'outlook' | 'backupId'> & {
  /** Null: it is not archived by this program. */
  readonly log: SecuredLog | null;
};

/**
 * What is left to do when nobody writes any more: the log into the archive, the disaster onto record, people told, and a
 * backup where one is wanted. None of it can undo the stop: what fails is a problem, not an error.
 */
export async function afterStop(run: StopRun, request: { readonly backup: boolean }): Promise<AfterStop> {
  let context: InstanceContext;
  try {
    const opened = await run.context.open();
    // At level hard the instance's own database may be closed.
    context = { ...opened, connection: { ...opened.connection, database: run.control.facts.database } };
  } catch (error) {
    run.problems.push(`the log was not archived: ${messageOf(error)}`);
    await tellOfStop(run, { incident: null, recommended: null, outlook: null });
    return { log: null, incident: null, recommended: null, outlook: null, backupId: null };
  }
  const log = await attempt(run, 'the log was not archived', () => archiveLog(run, context));
  const cause = await attempt(run, 'what writes were stopped for is not known', () =>
    findCause(run, context, log !== null),
  );
  const incident = cause?.incident ?? null;
  const recommended = cause === null ? null : recommendedFor(cause);
  const outlook =
    incident === null
      ? null
      : await attempt(run, 'how long a recovery takes is not known', () =>
          recoveryOutlook(context, run.options.signal),
        );
  await tellOfStop(run, { incident, recommended, outlook });
  const backupId = request.backup
    ? await attempt(run, 'there is no emergency backup', () => backUp(run, context))
    : null;
  return { log, incident: await logged(run, context, incident), recommended, outlook, backupId };
}

/** The incident with what the stop did. */
async function logged(
  run: StopRun,
  context: InstanceContext,
  incident: Incident | null,
): Promise<Incident | null> {
  if (incident === null) return null;
  const what = 'what the stop did is not on the record of the incident';
  return (await attempt(run, what, () => addStopEvents(run, context, incident.id))) ?? incident;
}

async function attempt<T>(run: StopRun, what: string, work: () => Promise<T>): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    run.options.signal.throwIfAborted();
    run.problems.push(`${what}: ${messageOf(error)}`);
    return null;
  }
}

async function archiveLog(run: StopRun, context: InstanceContext): Promise<SecuredLog | null> {
  const { signal, onEvent } = run.options;
  const server = await readServerFacts(run.control.client, signal);
  if (archivingOf(server) !== 'on') {
    const message = 'The log is not archived by aishell: what was written last is on the server alone.';
    onEvent({ type: 'note', level: 'info', message });
    return null;
  }
  const owner = { instance: context.instance, systemIdentifier: run.record.systemIdentifier };
  const step = { id: 'archive', title: 'Log archived', detail: (log: SecuredLog) => log.detail };
  const log = await runEmergencyStep(run, step, async () =>
    server.inRecovery
      ? // A server in recovery archives nothing; nor does it write, so its log can be read as it lies there.
        await secureStoppedLog(context, { owner, dataDirectory: server.dataDirectory }, signal)
      : await secureRunningLog(context, owner, { timeoutMs: ARCHIVE_LIMIT_MS, signal }),
  );
  if (log.problem !== null) run.problems.push(log.problem);
  return log;
}

async function backUp(run: StopRun, context: InstanceContext): Promise<string | null> {
  if (run.control.facts.inRecovery) {
    const message =
      'No backup of a server in recovery mode is made: the log that was archived leads to its very end.';
    run.options.onEvent({ type: 'note', level: 'info', message });
    return null;
  }
  // Where there is nothing to add to, this is a full one.
  const request = { name: 'emergency', type: 'incremental', dryRun: false } as const;
  const done = await createBackup(context, request, run.options);
  run.problems.push(...done.problems);
  const backupId = done.backup?.id ?? null;
  run.actions.push({
    step: 'backup',
    text: `Emergency backup made: ${backupId}`,
    at: new Date().toISOString(),
  });
  return backupId;
}
