import { AppError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { inspectDataDirectory } from '../../engines/postgres/data-directory.ts';
import { detectService } from '../../engines/postgres/service.ts';
import { findBinaries } from '../../engines/postgres/service-binaries.ts';
import type { InstanceContext } from '../instance-context.ts';
import { recordSpeeds } from '../recovery-time/speed-file.ts';
import { watchRecovery } from '../recovery-time/watch-recovery.ts';
import { findUnfinished, removePointer } from '../rewind/journal.ts';
import { heldControlFile } from '../rewind/places.ts';
import { forgetUntouched, resumeRewind } from '../rewind/resume-rewind.ts';
import { rewindInPlace } from '../rewind/rewind-in-place.ts';
import { exists } from '../rewind/safety-copy.ts';
import { checkpointAhead } from './checkpoint-ahead.ts';
import { chooseWay } from './choose-way.ts';
import { describeInstance, type FoundInstance, findInstance, refuseElsewhere } from './live-instance.ts';
import { roomForLog } from './log-feeder.ts';
import { planWithLog } from './plan-with-log.ts';
import { recordRecovery, watchMilestones } from './record-recovery.ts';
import { replaceInPlace } from './replace-in-place.ts';
import { layOutInPlace } from './restore-in-place.ts';
import { restoreIntoDirectory } from './restore-into-directory.ts';
import { lockDataDirectory } from './restore-lock.ts';
import { type RestoreReport, restoreStamp } from './restore-report.ts';
import type { RestoreOptions, RestoreRequest } from './restore-request.ts';
import { checkSpace } from './target-directory.ts';

/**
 * Restores an instance in place, or into another directory. The old state can be brought back whatever happens. How long
 * it took is kept on this machine, for estimates of the next time.
 */
export async function restore(
  context: InstanceContext,
  request: RestoreRequest,
  options: RestoreOptions,
): Promise<RestoreReport> {
  const { directory } = request;
  const moments = watchMilestones(options.onEvent);
  const watch = watchRecovery(moments.onEvent);
  const watched: RestoreOptions = {
    ...options,
    onEvent: watch.onEvent,
    confirm: (question, plan) => watch.askPerson(() => options.confirm(question, plan)),
  };
  const report = await (directory === null
    ? restoreInPlace(context, request, watched)
    : restoreIntoDirectory(context, request, { ...watched, directory }));
  if (report.dryRun) return report;
  const rewritten = report.rewind?.done ?? null;
  await recordRecovery(context, report, moments.times(), options.onEvent);
  const work = watch.work({
    logBytes: report.logBytes,
    restoredBytes: report.rewind === null ? report.backupBytes : null,
    rewrittenBytes: rewritten && rewritten.writtenBytes + rewritten.copiedBytes,
  });
  if (work !== null) {
    const { replay, ...others } = work;
    // Of log that was thinned, only a part was replayed: how fast a full restore would be, that does not tell.
    const told = rewritten?.isLogThinned ? others : work;
    await recordSpeeds(context.stateDirectory, context.instance, told);
  }
  return { ...report, work };
}

async function restoreInPlace(
  context: InstanceContext,
  request: RestoreRequest,
  options: RestoreOptions,
): Promise<RestoreReport> {
  const { onEvent, signal } = options;
  const startedAt = performance.now();
  const found = await findInstance(context, signal);
  await refuseElsewhere(found);
  using _lock = request.dryRun ? null : await lockInstance(found);
  const resumed = await resumeIfCutOff(context, { found, request, startedAt }, options);
  if (resumed !== null) return resumed;
  const live = await runStep(
    onEvent,
    {
      id: 'instance',
      title: 'Instance found',
      detail: instance => `${instance.dataDirectory}, ${instance.running ? 'running' : 'stopped'}`,
    },
    () => describeInstance(context, found, signal),
  );
  using _checkpoint = request.dryRun ? null : checkpointAhead(context, live, signal);
  const plan = await planWithLog(context, request, { ...options, live });
  const stamp = restoreStamp(new Date());
  const chosen = await chooseWay(context, { plan, live, stamp, asked: request.way }, options);
  const service = await detectService(live.dataDirectory, {
    setting: context.service,
    binaries: context.binaries,
    serverAnswers: live.answers,
  });
  const binaries = await findBinaries(Math.trunc(plan.backup.serverVersion / 10_000), {
    configured: context.binaries,
    dataDirectory: live.dataDirectory,
  });
  const { dryRun, verifyBeforeOpen } = request;
  const common = { plan, live, service, binaries, way: chosen.way, dryRun, startedAt };
  if (chosen.kind === 'rewind') {
    const job = { ...common, stamp, amount: chosen.amount, begun: chosen.begun, verifyBeforeOpen };
    return rewindInPlace(context, job, options);
  }
  const layout = await layOutInPlace(live.dataDirectory, plan.backup, stamp);
  await checkSpace(layout.fresh.dataDirectory, plan.backupBytes + roomForLog(plan.logBytes));
  return replaceInPlace(context, { ...common, layout }, options);
}

/** What is found of it must still be so when it is changed. @throws LOCKED */
async function lockInstance({ dataDirectory }: FoundInstance): Promise<Disposable> {
  return lockDataDirectory((await inspectDataDirectory(dataDirectory)).path);
}

/** Goes on with a rewind that was cut off, whatever its target was. @throws USAGE when there is none */
export async function resumeRestore(
  context: InstanceContext,
  request: Pick<RestoreRequest, 'dryRun' | 'verifyBeforeOpen'>,
  options: RestoreOptions,
): Promise<RestoreReport> {
  const startedAt = performance.now();
  const moments = watchMilestones(options.onEvent);
  const found = await findInstance(context, options.signal);
  await refuseElsewhere(found);
  using _lock = request.dryRun ? null : await lockInstance(found);
  const journal = await findUnfinished(found.dataDirectory);
  if (journal === null || (await forgetUntouched(journal))) {
    throw new AppError('USAGE', `there is no unfinished rewind in '${found.dataDirectory}'`, {
      hint: 'Say which moment to go back to, as in: aishell backup restore --point-in-time TIME',
    });
  }
  const watched = { ...options, onEvent: moments.onEvent };
  const report = await resumeRewind(context, journal, { ...request, asked: null, startedAt }, watched);
  if (!report.dryRun) await recordRecovery(context, report, moments.times(), options.onEvent);
  return report;
}

/** The same command again finishes a rewind that was cut off; null when there is none. */
async function resumeIfCutOff(
  context: InstanceContext,
  from: { readonly found: FoundInstance; readonly request: RestoreRequest; readonly startedAt: number },
  options: RestoreOptions,
): Promise<RestoreReport | null> {
  const { found, request, startedAt } = from;
  const journal = await findUnfinished(found.dataDirectory);
  if (journal === null || (await forgetUntouched(journal))) return null;
  if (journal.phase === 'placed' && !(await exists(heldControlFile(journal.places)))) {
    // Finished but for this word: it may have been started, used, and be wrecked again by now.
    await removePointer(journal);
    return null;
  }
  const { target, verifyBeforeOpen, dryRun } = request;
  const asked = { target, timeline: request.timeline ?? journal.timeline };
  return await resumeRewind(context, journal, { asked, verifyBeforeOpen, dryRun, startedAt }, options);
}
