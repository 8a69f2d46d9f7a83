import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { AppError, fileError, systemCode } from '../base/errors.ts';

/** Held by the one agent of an instance. */
export interface AgentLock {
  release(): void;
}

interface Holder {
  readonly pid: number;
  /** When that process began, as the kernel counts: another process may have got its number since. Null: not known. */
  readonly started: string | null;
}

/**
 * Takes the lock of an instance, also from a holder that is dead.
 *
 * @throws LOCKED another agent runs
 */
export function takeAgentLock(path: string, instance: string): AgentLock {
  const own: Holder = { pid: process.pid, started: startOf(process.pid) };
  const temporary = `${path}.${process.pid}`;
  try {
    writeFileSync(temporary, JSON.stringify(own), { mode: 0o600 });
    for (;;) {
      try {
        // A link fails when the name is there, and shows the file whole: two agents cannot both have it.
        linkSync(temporary, path);
        return { release: () => release(path, own) };
      } catch (error) {
        if (systemCode(error) !== 'EEXIST') throw error;
      }
      const holder = readHolder(path);
      if (holder !== null && isAlive(holder)) throw locked(instance, holder.pid);
      // Out of the way by renaming: of two agents that find it dead, one gets it, and the other looks again. What the
      // second one took may be the lock that the first one has made since: then it goes back.
      const dead = `${temporary}.dead`;
      renameIfThere(path, dead);
      const taken = readHolder(dead);
      if (taken !== null && isAlive(taken)) {
        linkSync(dead, path);
        throw locked(instance, taken.pid);
      }
    }
  } catch (error) {
    throw error instanceof AppError ? error : fileError('lock', path, error);
  } finally {
    rmSync(temporary, { force: true });
    rmSync(`${temporary}.dead`, { force: true });
  }
}

/** Whether an agent that lives, other than the one of this process number, holds the lock. */
export function isHeldByAnother(path: string, pid: number): boolean {
  const holder = readHolder(path);
  return holder !== null && holder.pid !== pid && isAlive(holder);
}

function release(path: string, own: Holder): void {
  if (readHolder(path)?.pid === own.pid) rmSync(path, { force: true });
}

function readHolder(path: string): Holder | null {
  try {
    const holder = JSON.parse(readFileSync(path, 'utf8')) as Holder;
    return Number.isInteger(holder.pid) && holder.pid > 0 ? holder : null;
  } catch {
    // Gone meanwhile, or cut off by a machine that failed: nobody holds it.
    return null;
  }
}

function isAlive({ pid, started }: Holder): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // Another account's process may not be asked, but it is there.
    if (systemCode(error) !== 'EPERM') return false;
  }
  const now = startOf(pid);
  return started === null || now === null || now === started;
}

/** @source proc(5), /proc/pid/stat, starttime: the 22nd field, the 20th behind the name in parentheses */
function startOf(pid: number): string | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}

function renameIfThere(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
}

function locked(instance: string, pid: number): AppError {
  return new AppError(
    'LOCKED',
    `unable to start: an agent of instance '${instance}' runs already, process ${pid}`,
    {
      hint: 'One agent streams the log of an instance. `aishell agent status` shows what it does.',
      details: { pid },
    },
  );
}
