import { join } from 'node:path';
import { runStep } from '../../base/events.ts';
import { counted } from '../../base/sizes.ts';
import type { findBinaries } from '../../engines/postgres/service-binaries.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { CONFIG_FOLDER, type Layout, makeOwned, placeOf, prepareRecovery } from './assemble-directory.ts';
import { type LogFeeder, startLogFeeder } from './log-feeder.ts';
import type { Owner } from './new-files.ts';
import type { RecoveryPlan } from './plan-restore.ts';
import { type Recovered, recoverDirectory } from './recover-directory.ts';
import { restoreFiles } from './restore-files.ts';

export interface Restoring {
  readonly plan: RecoveryPlan;
  readonly layout: Layout;
  readonly owner: Owner;
  readonly binaries: Awaited<ReturnType<typeof findBinaries>>;
}

/** Writes a backup into an empty directory, feeds it the log, recovers and verifies it. */
export async function restoreAndRecover(
  context: InstanceContext,
  restoring: Restoring,
  options: RunOptions,
): Promise<Recovered> {
  const { plan, layout } = restoring;
  await restoreBackup(context, restoring, options);
  await using feeder = feedLog(context, restoring, options);
  return await recoverDirectory(
    layout,
    { plan, binaries: restoring.binaries, workers: context.workers, feeder },
    options,
  );
}

/** Writes a backup into an empty directory, so that a recovery can begin in it. */
export async function restoreBackup(
  context: InstanceContext,
  restoring: Restoring,
  options: RunOptions,
): Promise<void> {
  const { plan, layout, owner } = restoring;
  await runStep(
    options.onEvent,
    { id: 'restore-files', title: 'Files restored', detail: done => counted(done.files, 'file') },
    async () => {
      await makeOwned(layout.dataDirectory, owner);
      for (const place of layout.tablespaces.values()) await makeOwned(place, owner);
      return restoreFiles(
        context,
        {
          manifest: plan.manifest,
          placeOf: line =>
            line.t === 'config' ? join(layout.dataDirectory, CONFIG_FOLDER, line.p) : placeOf(layout, line.p),
          owner,
          workers: context.workers,
        },
        options,
      );
    },
  );
  await prepareRecovery(layout, plan.backup, owner);
}

/** Begins to feed the log of a plan; disposed of by the caller. */
export function feedLog(context: InstanceContext, restoring: Restoring, options: RunOptions): LogFeeder {
  const { plan, layout, owner } = restoring;
  return startLogFeeder(
    context,
    {
      files: plan.logFiles,
      log: { instance: context.instance, systemIdentifier: plan.backup.systemIdentifier },
      directory: join(layout.dataDirectory, 'pg_wal'),
      owner,
      workers: context.workers,
      reuseBehind: null,
      onEvent: options.onEvent,
    },
    options.signal,
  );
}
