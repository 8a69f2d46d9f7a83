import { link, open, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';

const NAME = 'standby.signal';
const TEMPORARY = 'standby.signal.aishell';

/** `absent`; `ours`: made by {@link writeStandbySignal} with this mark; `other`: somebody else's. */
export type StandbySignal = 'absent' | 'ours' | 'other';

/** Whether the server of this directory will start in recovery mode. PostgreSQL does not look at what is in the file. */
export async function readStandbySignal(dataDirectory: string, mark: string): Promise<StandbySignal> {
  const path = join(dataDirectory, NAME);
  try {
    return (await readFile(path, 'utf8')).trim() === mark ? 'ours' : 'other';
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return 'absent';
    throw fileError('read', path, error);
  }
}

/** The file that will make the server recover when it is started next, if there is one without this mark. */
export async function foreignSignal(dataDirectory: string, mark: string | null): Promise<string | null> {
  const found = await readStandbySignal(dataDirectory, mark ?? '');
  if (found === 'other' || (found === 'ours' && mark === null)) return join(dataDirectory, NAME);
  const recovery = join(dataDirectory, 'recovery.signal');
  return (await stat(recovery).catch(() => null)) === null ? null : recovery;
}

/**
 * Makes the server start in recovery mode from now on, also after a power failure. The file gets its name when it is
 * whole, so that one that is cut off half way is never taken for somebody else's.
 *
 * @throws EXISTS there is such a file, FILE_FAILED DISK_FULL
 */
export async function writeStandbySignal(dataDirectory: string, mark: string): Promise<void> {
  const path = join(dataDirectory, NAME);
  const temporary = join(dataDirectory, TEMPORARY);
  const owner = await stat(dataDirectory);
  try {
    {
      await using file = await open(temporary, 'w', 0o600);
      await file.writeFile(`${mark}\n`);
      if (process.getuid?.() === 0) await file.chown(owner.uid, owner.gid);
      await file.sync();
    }
    await link(temporary, path);
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw fileError('write', path, error);
    throw new AppError('EXISTS', `unable to write '${path}': it is there already`, {
      hint: 'Something else keeps this server in recovery mode, or was about to. Nothing was changed.',
      cause: error,
    });
  } finally {
    await rm(temporary, { force: true });
  }
  await flushDirectory(dataDirectory);
}

/** Removes the file if it has this mark; fine when there is none. @throws EXISTS it is somebody else's */
export async function removeStandbySignal(dataDirectory: string, mark: string): Promise<void> {
  await rm(join(dataDirectory, TEMPORARY), { force: true });
  const found = await readStandbySignal(dataDirectory, mark);
  if (found === 'absent') return;
  const path = join(dataDirectory, NAME);
  if (found === 'other') {
    throw new AppError('EXISTS', `unable to remove '${path}': it was not made by aishell for this stop`, {
      hint: 'Find out who keeps this server in recovery mode; remove the file by hand if nobody does.',
    });
  }
  await rm(path, { force: true }).catch((error: unknown) => {
    throw fileError('remove', path, error);
  });
  await flushDirectory(dataDirectory);
}

async function flushDirectory(directory: string): Promise<void> {
  await using handle = await open(directory, 'r');
  await handle.sync();
}
