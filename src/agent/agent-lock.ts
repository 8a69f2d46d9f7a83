import { AppError, fileError } from '../base/errors.ts';
import { type LockOutcome, lockHolder, takeProcessLock } from '../base/process-lock.ts';

/** Held by the one agent of an instance. */
export interface AgentLock {
  release(): void;
}

/**
 * Takes the lock of an instance, also from a holder that is dead.
 *
 * @throws LOCKED another agent runs
 */
export function takeAgentLock(path: string, instance: string): AgentLock {
  let taken: LockOutcome;
  try {
    taken = takeProcessLock(path, 'agent');
  } catch (error) {
    throw fileError('lock', path, error);
  }
  const { holder, release } = taken;
  if (holder === null) return { release };
  const { pid } = holder;
  throw new AppError(
    'LOCKED',
    `unable to start: an agent of instance '${instance}' runs already, process ${pid}`,
    {
      hint: 'One agent streams the log of an instance. `aishell agent status` shows what it does.',
      details: { pid },
    },
  );
}

/** Whether an agent that lives, other than the one of this process number, holds the lock. */
export function isHeldByAnother(path: string, pid: number): boolean {
  const holder = lockHolder(path);
  return holder !== null && holder.pid !== pid;
}
