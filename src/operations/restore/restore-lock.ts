import { join } from 'node:path';
import { AppError, fileError } from '../../base/errors.ts';
import { type LockOutcome, takeProcessLock } from '../../base/process-lock.ts';

/** Backups leave out what begins with `aishell-`. */
const LOCK = 'aishell-restore.lock';

/**
 * Makes sure that one process at a time, whoever runs it, exchanges or rewrites the files of a data directory. It lies in that
 * directory, which all of them have in common.
 *
 * @throws LOCKED FILE_FAILED
 */
export function lockDataDirectory(dataDirectory: string): Disposable {
  const path = join(dataDirectory, LOCK);
  let taken: LockOutcome;
  try {
    taken = takeProcessLock(path, 'restore');
  } catch (error) {
    throw fileError('lock', path, error);
  }
  const { holder, release } = taken;
  if (holder === null) return { [Symbol.dispose]: release };
  throw new AppError('LOCKED', `another run is restoring this instance (process ${holder.pid})`, {
    hint: 'Nothing was changed. Wait for it, or stop it.',
    details: { pid: holder.pid },
  });
}
