import { runStep } from '../../base/events.ts';
import { detectService } from '../../engines/postgres/service.ts';
import { findBinaries } from '../../engines/postgres/service-binaries.ts';
import type { InstanceContext } from '../instance-context.ts';
import { locateInstance } from './live-instance.ts';
import { planWithLog } from './plan-with-log.ts';
import { replaceInPlace } from './replace-in-place.ts';
import { layOutInPlace } from './restore-in-place.ts';
import { restoreIntoDirectory } from './restore-into-directory.ts';
import { type RestoreReport, restoreStamp } from './restore-report.ts';
import type { RestoreOptions, RestoreRequest } from './restore-request.ts';
import { checkSpace } from './target-directory.ts';

/** Restores an instance in place, or into another directory. The live state is not touched until the new one is proven. */
export async function restore(
  context: InstanceContext,
  request: RestoreRequest,
  options: RestoreOptions,
): Promise<RestoreReport> {
  return request.directory === null
    ? restoreInPlace(context, request, options)
    : restoreIntoDirectory(context, request, { ...options, directory: request.directory });
}

async function restoreInPlace(
  context: InstanceContext,
  request: RestoreRequest,
  options: RestoreOptions,
): Promise<RestoreReport> {
  const { onEvent, signal } = options;
  const startedAt = performance.now();
  const stamp = restoreStamp(new Date());
  const live = await runStep(
    onEvent,
    {
      id: 'instance',
      title: 'Instance found',
      detail: found => `${found.dataDirectory}, ${found.running ? 'running' : 'stopped'}`,
    },
    () => locateInstance(context, signal),
  );
  const plan = await planWithLog(context, request, { ...options, live });
  const layout = await layOutInPlace(live.dataDirectory, plan.backup, stamp);
  await checkSpace(layout.fresh.dataDirectory, plan.backupBytes + plan.logBytes);
  const service = await detectService(layout.dataDirectory, {
    setting: context.service,
    binaries: context.binaries,
    serverAnswers: live.answers,
  });
  const binaries = await findBinaries(Math.trunc(plan.backup.serverVersion / 10_000), {
    configured: context.binaries,
    dataDirectory: layout.dataDirectory,
  });
  const { dryRun } = request;
  return replaceInPlace(
    context,
    { plan, live, service, binaries, layout, reason: null, dryRun, startedAt },
    options,
  );
}
