import { randomBytes } from 'node:crypto';
import { link, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';

/** Who holds the lock. The start of the process tells it from a later one of the same number. */
interface Holder {
  readonly pid: number;
  readonly started: string;
  readonly action: string;
}

/**
 * Makes sure that one process at a time stops or resumes an instance's writes from this machine. A lock whose process is
 * gone is taken over.
 *
 * The lock is the file with the highest number: who takes it makes the next one, which link(2) lets one do. The highest is
 * never removed, only marked as released, so that numbers never come again, and nobody can take what another one holds.
 *
 * @throws LOCKED FILE_FAILED
 */
export async function lockEmergency(
  directory: string,
  instance: string,
  action: string,
): Promise<AsyncDisposable> {
  const path = join(directory, `${instance}.emergency.lock`);
  const own: Holder = { pid: process.pid, started: await startOf(process.pid), action };
  const draft = `${path}.${randomBytes(8).toString('hex')}.draft`;
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    // The lock gets its name when it is whole.
    await writeFile(draft, JSON.stringify(own), { mode: 0o600, flag: 'wx' });
    const number = await take(path, draft);
    return { [Symbol.asyncDispose]: async () => await release(path, number) };
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw fileError('write', path, error);
  } finally {
    await rm(draft, { force: true });
  }
}

async function take(path: string, draft: string): Promise<number> {
  for (;;) {
    const highest = Math.max(0, ...(await numbersOf(path)));
    const holder = await readHolder(`${path}.${highest}`);
    if (holder !== null && (await startOf(holder.pid)) === holder.started) throw locked(holder);
    const mine = highest + 1;
    try {
      await link(draft, `${path}.${mine}`);
    } catch (error) {
      if (systemCode(error) === 'EEXIST') continue;
      throw error;
    }
    // Who looked long ago may have made a number that is over.
    const present = await numbersOf(path);
    const isHighest = present.every(number => number <= mine);
    for (const number of present)
      if (isHighest ? number < mine : number === mine) await rm(`${path}.${number}`, { force: true });
    if (isHighest) return mine;
  }
}

async function numbersOf(path: string): Promise<number[]> {
  const prefix = `${basename(path)}.`;
  return (await readdir(dirname(path))).flatMap(name => {
    const number = name.startsWith(prefix) ? name.slice(prefix.length) : '';
    return /^\d{1,15}$/.test(number) ? [Number(number)] : [];
  });
}

/** Where it cannot be marked, on a full disk, the end of the process releases it. */
async function release(path: string, number: number): Promise<void> {
  const released = `${path}.${number}.released`;
  try {
    await writeFile(released, '{}', { mode: 0o600 });
    await rename(released, `${path}.${number}`);
  } catch {
    await rm(released, { force: true });
  }
}

/** Null: nobody holds it. */
async function readHolder(path: string): Promise<Holder | null> {
  try {
    const holder = JSON.parse(await readFile(path, 'utf8')) as Holder;
    return Number.isInteger(holder.pid) ? holder : null;
  } catch {
    return null;
  }
}

/** Boot and start time of a process; empty when there is none. @source proc(5), /proc/pid/stat field 22 */
async function startOf(pid: number): Promise<string> {
  try {
    const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
    const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\) /s, '').split(' ');
    return /^[ZX]/.test(fields[0] ?? '') ? '' : `${boot}:${fields[19]}`;
  } catch {
    if (process.platform === 'linux') return '';
    // Elsewhere only the number is known.
    try {
      process.kill(pid, 0);
      return 'running';
    } catch (error) {
      return systemCode(error) === 'EPERM' ? 'running' : '';
    }
  }
}

function locked(holder: Holder): AppError {
  const who = `process ${holder.pid} (${holder.action})`;
  return new AppError(
    'LOCKED',
    `unable to change anything now: ${who} is at work on this instance's writes`,
    {
      hint: 'Wait until it is done; `aishell emergency status` shows how things stand.',
    },
  );
}
