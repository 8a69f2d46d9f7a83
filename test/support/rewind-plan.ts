import { openInstance } from '../../src/app/open-instance.ts';
import { readConfig } from '../../src/config/read-config.ts';
import { detectService } from '../../src/engines/postgres/service.ts';
import { findBinaries } from '../../src/engines/postgres/service-binaries.ts';
import type { InstanceContext } from '../../src/operations/instance-context.ts';
import { locateInstance } from '../../src/operations/restore/live-instance.ts';
import { planWithLog } from '../../src/operations/restore/plan-with-log.ts';
import { restoreStamp } from '../../src/operations/restore/restore-report.ts';
import type { RestoreRequest } from '../../src/operations/restore/restore-request.ts';
import type { Rewinding } from '../../src/operations/rewind/rewind.ts';

const options = { signal: new AbortController().signal, onEvent: () => undefined };

/** What the program's own operations work with, in this process. */
export async function contextOf(instance: { readonly configFile: string }): Promise<InstanceContext> {
  const config = readConfig({ file: instance.configFile, env: {}, cwd: '/' });
  return await openInstance(config, { ...options, env: {}, workers: 2, toolVersion: 'test' });
}

/** A plan to a position, and all that a rewind to it needs; the server is still as it was. */
export async function planRewind(context: InstanceContext, lsn: bigint): Promise<Rewinding> {
  const live = await locateInstance(context, options.signal);
  const request: RestoreRequest = {
    target: { kind: 'lsn', lsn },
    ...{ directory: null, timeline: null, dryRun: false, way: 'rewind', verifyBeforeOpen: false },
  };
  const plan = await planWithLog(context, request, { ...options, live });
  const service = await detectService(live.dataDirectory, {
    setting: context.service,
    binaries: context.binaries,
    serverAnswers: live.answers,
  });
  const major = Math.trunc(plan.backup.serverVersion / 10_000);
  const binaries = await findBinaries(major, {
    configured: context.binaries,
    dataDirectory: live.dataDirectory,
  });
  return { plan, live, service, binaries, stamp: restoreStamp(new Date()), begun: null, requested: 'a test' };
}
