import type { Binaries } from '../../engines/postgres/service-binaries.ts';
import type { Service } from '../../engines/postgres/service-contract.ts';
import { shellCommand } from '../../engines/postgres/service-process.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { LiveInstance } from './live-instance.ts';
import type { RecoveryPlan } from './plan-restore.ts';
import { checkPacks } from './plan-with-log.ts';
import type { Recovered } from './recover-directory.ts';
import { restoreAndRecover } from './restore-and-recover.ts';
import { adoptLiveFiles, discardFresh, type InPlaceLayout, putInPlace } from './restore-in-place.ts';
import { type RestoreReport, type RestoreWay, reportOf } from './restore-report.ts';
import type { RestoreOptions } from './restore-request.ts';
import { stopLiveServer, withHint } from './stop-live-server.ts';

/** A restore in place that is planned and possible. */
export interface Replacing {
  readonly plan: RecoveryPlan;
  readonly live: LiveInstance;
  readonly service: Service;
  readonly binaries: Binaries;
  readonly layout: InPlaceLayout;
  readonly way: RestoreWay;
  readonly dryRun: boolean;
  readonly startedAt: number;
}

/** Restores all of the backup beside the live directory, recovers and verifies it there, and exchanges the two. */
export async function replaceInPlace(
  context: InstanceContext,
  replacing: Replacing,
  options: RestoreOptions,
): Promise<RestoreReport> {
  const { plan, live, service, layout, binaries, startedAt } = replacing;
  const report = {
    ...{ context, plan, live, service: service.description, way: replacing.way },
    mode: 'in-place' as const,
    safety: { path: layout.safetyPath, goBack: shellCommand(['sh', layout.scriptPath]) },
  };
  const planned = { ...report, dryRun: true, recovered: null, downtimeSeconds: null };
  if (replacing.dryRun) return reportOf({ ...planned, seconds: secondsSince(startedAt) });
  const before = reportOf({ ...planned, seconds: 0 });
  await options.confirm('instance', before);
  await checkPacks(context, plan, options);
  await options.confirm('ready', before);
  let recovered: Recovered;
  const stoppedAt = performance.now();
  try {
    await stopLiveServer(live, service, options);
    recovered = await restoreAndRecover(
      context,
      { plan, layout: layout.fresh, owner: layout.owner, binaries },
      options,
    );
    await adoptLiveFiles(layout, recovered, options);
  } catch (error) {
    await discardFresh(layout);
    throw withHint(error, `The old state is untouched; start it with: ${service.startCommand}`, options);
  }
  await putInPlace(layout, { context, service }, options);
  return reportOf({
    ...report,
    dryRun: false,
    seconds: secondsSince(startedAt),
    recovered,
    downtimeSeconds: live.running ? secondsSince(stoppedAt) : null,
  });
}

function secondsSince(startedAt: number): number {
  return (performance.now() - startedAt) / 1000;
}
