import { messageOf } from '../../base/errors.ts';
import { readServerFacts } from '../../engines/postgres/server-facts.ts';
import { createBackup } from '../backup/create-backup.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type SecuredLog, secureRunningLog, secureStoppedLog } from '../log/secure-live-log.ts';
import { archivingOf } from '../server-picture.ts';
import { readTimeline } from '../timeline/read-timeline.ts';
import type { RecommendedTarget } from './stop-report.ts';
import { runEmergencyStep, type StopRun } from './stop-run.ts';

const ARCHIVE_LIMIT_MS = 30_000;

export interface AfterStop {
  /** Null: it is not archived by this program. */
  readonly log: SecuredLog | null;
  readonly recommended: RecommendedTarget | null;
  readonly backupId: string | null;
}

/**
 * What is left to do when nobody writes any more: the log into the archive, and a backup where one is wanted. None of it
 * can undo the stop: what fails is a problem, not an error.
 */
export async function afterStop(run: StopRun, request: { readonly backup: boolean }): Promise<AfterStop> {
  let context: InstanceContext;
  try {
    const opened = await run.context.open();
    // At level hard the instance's own database may be closed.
    context = { ...opened, connection: { ...opened.connection, database: run.control.facts.database } };
  } catch (error) {
    run.problems.push(`the log was not archived: ${messageOf(error)}`);
    return { log: null, recommended: null, backupId: null };
  }
  const log = await attempt(run, 'the log was not archived', () => archiveLog(run, context));
  const recommended =
    log === null
      ? null
      : await attempt(run, 'the log does not say where to go back to', () => recommend(run, context));
  const backupId = request.backup
    ? await attempt(run, 'there is no emergency backup', () => backUp(run, context))
    : null;
  return { log, recommended, backupId };
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

/** How far back the disaster is looked for. */
const LOOK_BACK_US = 3_600_000_000n;
const NOTABLE_ROWS = 1000;
const worstFirst = ['drop', 'truncate', 'delete', 'update'];

/** Of what stands out in the last hour of the log: what destroyed most surely, and of these the last. */
async function recommend(run: StopRun, context: InstanceContext): Promise<RecommendedTarget | null> {
  const fromUs = BigInt(Date.parse(run.record.stoppedAt)) * 1000n - LOOK_BACK_US;
  const request = {
    fromUs,
    toUs: null,
    table: null,
    minimumRows: NOTABLE_ROWS,
    limit: 20,
    mostBuckets: 1,
    timeline: null,
  };
  const { transactions } = await readTimeline(context, request, run.options);
  const [worst] = transactions
    .filter(({ kind }) => worstFirst.includes(kind))
    .sort(
      (a, b) =>
        worstFirst.indexOf(a.kind) - worstFirst.indexOf(b.kind) || (b.time ?? '').localeCompare(a.time ?? ''),
    );
  if (worst === undefined) return null;
  return { xid: worst.xid, did: worst.summary, committedAt: worst.time, command: worst.restore };
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
