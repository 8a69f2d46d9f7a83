import { messageOf } from '../../base/errors.ts';
import { readServerFacts } from '../../engines/postgres/server-facts.ts';
import { createBackup } from '../backup/create-backup.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type SecuredLog, secureRunningLog, secureStoppedLog } from '../log/secure-live-log.ts';
import { archivingOf } from '../server-picture.ts';
import { runEmergencyStep, type StopRun } from './stop-run.ts';

const ARCHIVE_LIMIT_MS = 30_000;

/**
 * What is left to do when nobody writes any more: the log into the archive, and a backup where one is wanted. None of it
 * can undo the stop: what fails is a problem, not an error.
 */
export async function afterStop(
  run: StopRun,
  request: { readonly backup: boolean },
): Promise<{ readonly log: SecuredLog | null; readonly backupId: string | null }> {
  let context: InstanceContext;
  try {
    const opened = await run.context.open();
    // At level hard the instance's own database may be closed.
    context = { ...opened, connection: { ...opened.connection, database: run.control.facts.database } };
  } catch (error) {
    run.problems.push(`the log was not archived: ${messageOf(error)}`);
    return { log: null, backupId: null };
  }
  const log = await attempt(run, 'the log was not archived', () => archiveLog(run, context));
  const backupId = request.backup
    ? await attempt(run, 'there is no emergency backup', () => backUp(run, context))
    : null;
  return { log, backupId };
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
