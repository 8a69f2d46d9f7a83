import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { AppError, fileError } from '../../base/errors.ts';
import { type LockOutcome, takeProcessLock } from '../../base/process-lock.ts';

/**
 * Makes sure that one process at a time stops or resumes an instance's writes from this machine.
 *
 * @throws LOCKED FILE_FAILED
 */
export function lockEmergency(directory: string, instance: string, action: string): Disposable {
  const path = join(directory, `${instance}.emergency.lock`);
  let taken: LockOutcome;
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    taken = takeProcessLock(path, action);
  } catch (error) {
    throw fileError('write', path, error);
  }
  const { holder, release } = taken;
  if (holder === null) return { [Symbol.dispose]: release };
  throw new AppError(
    'LOCKED',
    `unable to change anything now: process ${holder.pid} (${holder.about}) is at work on this instance's writes`,
    { hint: 'Wait until it is done; `aishell emergency status` shows how things stand.' },
  );
}
