import { randomBytes } from 'node:crypto';
import { link, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';

/** Who holds the lock. The start of the process tells it from a later one of the same number. */
interface Holder {
  readonly pid: number;
  readonly started: string;
  readonly action: string;
  readonly token: string;
}

/**
 * Makes sure that one process at a time stops or resumes an instance's writes from this machine. A lock whose process is
 * gone is taken over.
 *
 * @throws LOCKED FILE_FAILED
 */
export async function lockEmergency(
  directory: string,
  instance: string,
  action: string,
): Promise<AsyncDisposable> {
  const path = join(directory, `${instance}.emergency.lock`);
  const own: Holder = {
    pid: process.pid,
    started: await startOf(process.pid),
    action,
    token: randomBytes(8).toString('hex'),
  };
  const draft = `${path}.${own.token}`;
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    // The lock gets its name when it is whole: link(2) fails where there is one.
    await writeFile(draft, JSON.stringify(own), { mode: 0o600, flag: 'wx' });
    await take(path, draft);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw fileError('write', path, error);
  } finally {
    await rm(draft, { force: true });
  }
  return {
    async [Symbol.asyncDispose]() {
      if ((await readHolder(path))?.token === own.token) await rm(path, { force: true });
    },
  };
}

async function take(path: string, draft: string): Promise<void> {
  for (let attempt = 0; attempt < 10; attempt += 1) {
    try {
      await link(draft, path);
      return;
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
    }
    const holder = await readHolder(path);
    if (holder !== null && (await startOf(holder.pid)) === holder.started) throw locked(holder);
    await moveAside(path, holder, `${draft}.old`);
  }
  throw locked(await readHolder(path));
}

/** Removes a lock that is known to be left over. If another process has replaced it meanwhile, that one's is put back. */
async function moveAside(path: string, expected: Holder | null, aside: string): Promise<void> {
  try {
    await rename(path, aside);
    const moved = await readHolder(aside);
    if (moved !== null && moved.token !== expected?.token) await link(aside, path);
  } catch (error) {
    if (!['ENOENT', 'EEXIST'].includes(systemCode(error))) throw error;
  } finally {
    await rm(aside, { force: true });
  }
}

async function readHolder(path: string): Promise<Holder | null> {
  try {
    const holder = JSON.parse(await readFile(path, 'utf8')) as Holder;
    return Number.isInteger(holder.pid) && typeof holder.token === 'string' ? holder : null;
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

function locked(holder: Holder | null): AppError {
  const who = holder === null ? 'another process' : `process ${holder.pid} (${holder.action})`;
  return new AppError(
    'LOCKED',
    `unable to change anything now: ${who} is at work on this instance's writes`,
    {
      hint: 'Wait until it is done; `aishell emergency status` shows how things stand.',
    },
  );
}
