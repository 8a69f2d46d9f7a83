import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { stopLeftOver } from '../../engines/postgres/isolated-server-process.ts';
import { type Binaries, findBinaries } from '../../engines/postgres/service-binaries.ts';
import type { InstanceContext } from '../instance-context.ts';
import { writeOwned } from '../restore/assemble-directory.ts';
import type { LiveInstance } from '../restore/live-instance.ts';
import { roomForLog } from '../restore/log-feeder.ts';
import type { Owner } from '../restore/new-files.ts';
import type { RecoveryPlan } from '../restore/plan-restore.ts';
import { ownerFor } from '../restore/restore-into-directory.ts';
import {
  checkEmptyDirectory,
  checkSpace,
  claimDirectory,
  clearDirectory,
} from '../restore/target-directory.ts';
import type { SideFiles } from './plan-files.ts';

/** A directory that a later run may remove, should this one be killed. */
const MARKER = 'aishell-side.json';
const COPY = 'copy';

/** Where a side instance is made, and what is read from it may be kept meanwhile. Disposed of, all of it is gone. */
export interface SideDirectory extends AsyncDisposable {
  readonly path: string;
  /** Of the side instance; not there yet. */
  readonly copy: string;
  readonly owner: Owner;
  readonly binaries: Binaries;
  /** Removes everything that is in it, but keeps it. */
  empty(): Promise<void>;
}

/**
 * Takes a directory for a side instance, when there is room. What a run that was killed has left there is removed.
 *
 * @param request.origin the data directory of the instance
 * @throws SPACE_INSUFFICIENT, TARGET_NOT_EMPTY, TARGET_UNUSABLE, PROGRAM_NOT_FOUND
 */
export async function claimSideDirectory(
  context: Pick<InstanceContext, 'location' | 'binaries' | 'instance'>,
  request: {
    readonly path: string;
    readonly origin: string;
    readonly live: LiveInstance | null;
    readonly plan: RecoveryPlan;
    readonly files: SideFiles;
  },
): Promise<SideDirectory> {
  const { path, origin, live, plan, files } = request;
  await removeLeftOver(path);
  const repositoryPath = context.location.kind === 'local' ? context.location.path : null;
  const directory = await checkEmptyDirectory(path, { dataDirectory: origin, repositoryPath });
  await checkSpace(directory.path, neededSpace(plan, files));
  const binaries = await findBinaries(Math.trunc(plan.backup.serverVersion / 10_000), {
    configured: context.binaries,
    ...(live === null ? {} : { dataDirectory: live.dataDirectory }),
  });
  const owner = await ownerFor(live, plan);
  const mark = (): Promise<void> =>
    writeOwned(
      join(directory.path, MARKER),
      `${JSON.stringify({ instance: context.instance, backup: plan.backup.id })}\n`,
      owner,
    );
  await claimDirectory(directory, owner);
  await mark();
  return {
    path: directory.path,
    copy: join(directory.path, COPY),
    owner,
    binaries,
    empty: async () => {
      await clearDirectory({ ...directory, exists: true });
      await mark();
    },
    [Symbol.asyncDispose]: () => clearDirectory(directory),
  };
}

/** What is left out becomes no hole where the log has a page of it. */
function neededSpace({ logBytes }: RecoveryPlan, { bytes, ofBytes }: SideFiles): number {
  return bytes + Math.min(ofBytes - bytes, logBytes) + roomForLog(logBytes);
}

async function removeLeftOver(path: string): Promise<void> {
  const entries: readonly string[] = await readdir(path).catch(() => []);
  if (!entries.includes(MARKER)) return;
  await stopLeftOver(join(path, COPY));
  await rm(path, { recursive: true, force: true });
}
