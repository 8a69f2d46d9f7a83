import { join } from 'node:path';
import { AppError } from '../../base/errors.ts';
import { runStep } from '../../base/events.ts';
import { counted, formatBytes } from '../../base/sizes.ts';
import type { Settings } from '../../engines/postgres/recovery-settings.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { COPY_MARKER } from '../log/archive-segment.ts';
import { makeOwned, placeOf, prepareRecovery, writeOwned } from '../restore/assemble-directory.ts';
import type { LogFeeder } from '../restore/log-feeder.ts';
import type { RecoveryPlan } from '../restore/plan-restore.ts';
import { feedLog, type Restoring } from '../restore/restore-and-recover.ts';
import { restoreFiles } from '../restore/restore-files.ts';
import { layoutBelow } from '../restore/restore-into-directory.ts';
import { allFiles, type SideFiles } from './plan-files.ts';
import type { SideDirectory } from './side-directory.ts';

/** A side instance that can be started. */
export interface RestoredSide extends Restoring {
  readonly files: SideFiles;
  /** What its server needs to recover with the files that it has. */
  readonly settings: Settings;
}

/** Restores what a side instance needs of a backup. */
export async function restoreSide(
  context: InstanceContext,
  from: { readonly plan: RecoveryPlan; readonly files: SideFiles; readonly directory: SideDirectory },
  options: RunOptions,
): Promise<RestoredSide> {
  const { plan, files, directory } = from;
  const { owner, binaries } = directory;
  const layout = layoutBelow({ path: directory.copy }, plan);
  await runStep(
    options.onEvent,
    {
      id: 'restore-files',
      title: 'Files restored beside the instance',
      detail: done =>
        `${formatBytes(done.bytes)} of ${formatBytes(files.ofBytes)}, ${counted(done.files, 'file')}`,
    },
    async () => {
      await makeOwned(layout.dataDirectory, owner);
      for (const place of layout.tablespaces.values()) await makeOwned(place, owner);
      const { selection, bytes } = files;
      return await restoreFiles(
        context,
        {
          manifest: plan.manifest,
          // Configuration from outside the data directory is not needed: the server gets its own.
          placeOf: line => (line.t === 'config' ? null : placeOf(layout, line.p)),
          owner,
          workers: context.workers,
          ...(selection === null ? {} : { part: { needs: selection.needs, bytes } }),
        },
        options,
      );
    },
  );
  await prepareRecovery(layout, plan.backup, owner);
  await markCopy(layout.dataDirectory, plan, owner);
  return { plan, layout, owner, binaries, files, settings: settingsFor(files) };
}

/** Whatever becomes of it, nothing that is archived comes from it. */
async function markCopy(
  dataDirectory: string,
  { backup }: RecoveryPlan,
  owner: Restoring['owner'],
): Promise<void> {
  const { instance, id, systemIdentifier } = backup;
  const marker = { instance, backup: id, systemIdentifier, purpose: 'side instance, not whole' };
  await writeOwned(join(dataDirectory, COPY_MARKER), `${JSON.stringify(marker, null, 2)}\n`, owner);
}

/**
 * Records of pages that are holes are passed over; of pages that are needed the server's log says so, which is looked at. Of an
 * index the planner may look at its first page, and nobody may look at another.
 *
 * @source PostgreSQL manual, "Developer Options", ignore_invalid_pages; xlogutils.c, log_invalid_page
 */
function settingsFor({ selection }: SideFiles): Settings {
  if (selection === null) return {};
  return { ignore_invalid_pages: 'on', log_error_verbosity: 'terse', enable_indexonlyscan: 'off' };
}

/** Begins to feed the log to a side instance; disposed of by the caller. */
export function feedSide(context: InstanceContext, side: RestoredSide, options: RunOptions): LogFeeder {
  // How fast the log came is for estimates of whole restores.
  return feedLog(context, side, { ...options, onEvent: () => undefined });
}

const retried = ['RECOVERY_FAILED', 'DATABASE_FAILED', 'DATABASE_UNREACHABLE'];

/**
 * Does something with a side instance that has only what is needed. Where that fails, as when something was needed after all,
 * it is done again with all of the backup.
 */
export async function withLeastFiles<T>(
  from: { readonly plan: RecoveryPlan; readonly files: SideFiles; readonly directory: SideDirectory },
  { onEvent, signal }: RunOptions,
  work: (files: SideFiles) => Promise<T>,
): Promise<T> {
  const { plan, files, directory } = from;
  try {
    return await work(files);
  } catch (error) {
    signal.throwIfAborted();
    if (files.selection === null || !(error instanceof AppError) || !retried.includes(error.code))
      throw error;
    const message = `a part of the backup was not enough (${error.message}): all of it is restored`;
    onEvent({ type: 'note', level: 'warning', message });
    await directory.empty();
    return await work(allFiles(plan, 'a part of it was not enough'));
  }
}
