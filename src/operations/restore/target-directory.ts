import { chmod, chown, lstat, mkdir, readdir, readFile, realpath, rm, stat, statfs } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { formatBytes } from '../../base/sizes.ts';
import { runningServer } from '../../engines/postgres/data-directory.ts';
import { isInside } from '../backup/config-files.ts';

/** A directory to restore into, checked; nothing was changed yet. */
export interface CheckedDirectory {
  readonly path: string;
  /** Whether it is there already, empty. */
  readonly exists: boolean;
}

/**
 * Checks that a directory is new or empty, and nobody's: not production's, not the repository's, with no server in it.
 *
 * @throws TARGET_NOT_EMPTY, TARGET_RUNNING, TARGET_UNUSABLE
 */
export async function checkEmptyDirectory(
  given: string,
  forbidden: { readonly dataDirectory: string | null; readonly repositoryPath: string | null },
): Promise<CheckedDirectory> {
  const path = await realTarget(resolve(given));
  for (const [what, other] of [
    ['the data directory of the instance', forbidden.dataDirectory],
    ['the repository', forbidden.repositoryPath],
  ] as const) {
    if (other === null) continue;
    const real = await realpath(other).catch(() => resolve(other));
    if (path === real || isInside(real, path) || isInside(path, real)) {
      throw new AppError(
        'TARGET_UNUSABLE',
        `unable to restore into '${given}': it is ${what}, or in it, or around it`,
        {
          hint: 'Choose a new directory; to restore the instance itself, leave out --target.',
        },
      );
    }
  }
  let entries: string[];
  try {
    entries = await readdir(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') {
      await stat(dirname(path)).catch((cause: unknown) => {
        throw new AppError(
          'TARGET_UNUSABLE',
          `unable to restore into '${given}': '${dirname(path)}' does not exist`,
          { hint: 'Create it first, or choose another place.', cause },
        );
      });
      return { path, exists: false };
    }
    if (systemCode(error) === 'ENOTDIR')
      throw new AppError('TARGET_UNUSABLE', `unable to restore into '${given}': it is not a directory`, {
        hint: 'Choose a new or an empty directory.',
      });
    throw fileError('read', path, error);
  }
  if (entries.includes('postmaster.pid') && (await runningServer(path)) !== null) {
    throw new AppError('TARGET_RUNNING', `unable to restore into '${given}': a server is running in it`, {
      hint: 'Stop it, or choose another directory. Nothing was changed.',
    });
  }
  if (entries.some(name => name !== 'lost+found')) {
    throw new AppError('TARGET_NOT_EMPTY', `unable to restore into '${given}': it is not empty`, {
      hint: `Nothing was changed. Choose a new directory; it holds ${entries.slice(0, 3).join(', ')}${entries.length > 3 ? ', …' : ''}.`,
    });
  }
  return { path, exists: true };
}

/** @throws SPACE_INSUFFICIENT when a file system has not the room that is needed, and a little more */
export async function checkSpace(path: string, neededBytes: number): Promise<void> {
  const existing = await nearestExisting(path);
  const { bavail, bsize } = await statfs(existing);
  const freeBytes = bavail * bsize;
  const wantedBytes = Math.ceil(neededBytes * 1.02);
  if (freeBytes >= wantedBytes) return;
  throw new AppError(
    'SPACE_INSUFFICIENT',
    `unable to restore into '${path}': it needs ${formatBytes(wantedBytes)}, and ${formatBytes(freeBytes)} are free`,
    {
      hint: 'Nothing was changed. Free space there, or restore onto a larger disk with --target.',
      details: { neededBytes: wantedBytes, freeBytes },
    },
  );
}

/** Whether a path is a mount point, or its parent cannot be told: such a directory cannot be renamed. */
export async function isMountPoint(path: string): Promise<boolean> {
  const real = await realpath(path);
  const mounts = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
  const decoded = mounts
    .split('\n')
    .map(line =>
      line
        .split(' ')[4]
        ?.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
    );
  return decoded.includes(real) || (await lstat(real)).dev !== (await lstat(dirname(real))).dev;
}

/** Creates the directory, or takes the empty one. What a failed restore leaves in it is removed by {@link clearDirectory}. */
export async function claimDirectory(
  directory: CheckedDirectory,
  owner: { readonly uid: number; readonly gid: number } | null,
): Promise<void> {
  try {
    if (!directory.exists) await mkdir(directory.path, { mode: 0o700 });
    await chmod(directory.path, 0o700);
    if (owner !== null) await chown(directory.path, owner.uid, owner.gid);
  } catch (error) {
    throw fileError('create', directory.path, error);
  }
}

export async function clearDirectory(directory: CheckedDirectory): Promise<void> {
  if (!directory.exists) return rm(directory.path, { recursive: true, force: true });
  for (const name of await readdir(directory.path))
    await rm(join(directory.path, name), { recursive: true, force: true });
}

async function realTarget(path: string): Promise<string> {
  return realpath(path).catch(async () =>
    join(await realpath(dirname(path)).catch(() => dirname(path)), basename(path)),
  );
}

async function nearestExisting(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    if (
      await stat(at).then(
        () => true,
        () => false,
      )
    )
      return at;
    if (at === dirname(at)) return at;
  }
}
