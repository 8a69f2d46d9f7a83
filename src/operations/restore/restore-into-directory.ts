import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../../base/errors.ts';
import { isolatingSettingsFor } from '../../engines/postgres/recovery-settings.ts';
import { findBinaries } from '../../engines/postgres/service-binaries.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type Layout, makeCopy } from './assemble-directory.ts';
import { type LiveInstance, locateInstance } from './live-instance.ts';
import { roomForLog } from './log-feeder.ts';
import type { Owner } from './new-files.ts';
import type { RecoveryPlan } from './plan-restore.ts';
import { checkPacks, planWithLog } from './plan-with-log.ts';
import { restoreAndRecover } from './restore-and-recover.ts';
import { type RestoreReport, reportOf } from './restore-report.ts';
import type { RestoreOptions, RestoreRequest } from './restore-request.ts';
import {
  type CheckedDirectory,
  checkEmptyDirectory,
  checkSpace,
  claimDirectory,
  clearDirectory,
} from './target-directory.ts';

/** Makes a copy in another directory; its origin is left alone. */
export async function restoreIntoDirectory(
  context: InstanceContext,
  request: RestoreRequest,
  options: RestoreOptions & { readonly directory: string },
): Promise<RestoreReport> {
  const startedAt = performance.now();
  // An instance that is gone, broken or somebody else's is a usual reason to restore beside it.
  const live = await locateInstance(context, options.signal).catch((error: unknown) => {
    if (error instanceof AppError) return null;
    throw error;
  });
  const repositoryPath = context.location.kind === 'local' ? context.location.path : null;
  const directory = await checkEmptyDirectory(options.directory, {
    dataDirectory: live?.dataDirectory ?? context.dataDirectory,
    repositoryPath,
  });
  const plan = await planWithLog(context, request, { ...options, live });
  await checkSpace(directory.path, plan.backupBytes + roomForLog(plan.logBytes));
  const major = Math.trunc(plan.backup.serverVersion / 10_000);
  const binaries = await findBinaries(major, {
    configured: context.binaries,
    ...(live === null ? {} : { dataDirectory: live.dataDirectory }),
  });
  const report = { context, plan, live, service: null, mode: 'directory' as const, safety: null };
  if (request.dryRun)
    return reportOf({
      ...report,
      dryRun: true,
      seconds: secondsSince(startedAt),
      recovered: null,
      downtimeSeconds: null,
    });
  await checkPacks(context, plan, options);
  const owner = await ownerFor(live, plan);
  const layout = layoutBelow(directory, plan);
  await claimDirectory(directory, owner);
  try {
    const recovered = await restoreAndRecover(context, { plan, layout, owner, binaries }, options);
    const settings = {
      ...isolatingSettingsFor(major),
      restore_command: '',
      listen_addresses: 'localhost',
      port: String(copyPort(live)),
      unix_socket_directories: '/tmp',
      // The origin's own would be written to by both.
      log_directory: 'log',
      cluster_name: 'aishell restored copy',
    };
    await makeCopy(layout, { backup: plan.backup, settings, owner, restoredAt: new Date().toISOString() });
    return reportOf({
      ...report,
      dryRun: false,
      seconds: secondsSince(startedAt),
      recovered,
      downtimeSeconds: null,
      copy: { path: directory.path, port: copyPort(live), pgCtl: binaries.pgCtl },
    });
  } catch (error) {
    await clearDirectory(directory);
    throw error;
  }
}

/** All of a backup below one directory, its tablespaces too. */
export function layoutBelow(directory: Pick<CheckedDirectory, 'path'>, plan: RecoveryPlan): Layout {
  const tablespaces = new Map(
    plan.backup.tablespaces.map(
      ({ oid }) => [oid, join(directory.path, 'aishell-tablespaces', String(oid))] as const,
    ),
  );
  return { dataDirectory: directory.path, tablespaces };
}

/** A server never runs as root: what root restores belongs to whom the original belongs to. @throws TARGET_UNUSABLE */
export async function ownerFor(live: LiveInstance | null, plan: RecoveryPlan): Promise<Owner> {
  if (process.getuid?.() !== 0) return null;
  const origin = live?.dataDirectory ?? plan.backup.dataDirectory;
  const facts = await stat(origin).catch(() => null);
  if (facts !== null && facts.uid !== 0) return { uid: facts.uid, gid: facts.gid };
  throw new AppError(
    'TARGET_UNUSABLE',
    'unable to tell which user the restored files shall belong to: PostgreSQL does not run as root',
    {
      hint: 'Run the restore as that user, for instance: sudo -u postgres aishell backup restore …',
    },
  );
}

/** One more than the original's, so that both can run side by side. */
function copyPort(live: LiveInstance | null): number {
  return (live?.port ?? 5432) + 1;
}

function secondsSince(startedAt: number): number {
  return (performance.now() - startedAt) / 1000;
}
