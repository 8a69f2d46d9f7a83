import { randomBytes } from 'node:crypto';
import { chmodSync, linkSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { systemCode } from './errors.ts';

/** The process that holds a lock. */
export interface LockHolder {
  readonly pid: number;
  /** Boot and start of that process: another one may have got its number since. Null where the system does not say. */
  readonly started: string | null;
  /** What it does, in a word or two. */
  readonly about: string;
}

/** What taking a lock came to: it is held now, or somebody else holds it. */
export type LockOutcome =
  | { readonly release: () => void; readonly holder: null }
  | { readonly release: null; readonly holder: LockHolder };

/** Another account that may enter the directory has to see whose it is, whatever the umask: one that cannot be read would count as released. */
const FILE_MODE = 0o644;

/**
 * Takes a lock that one process of this machine can hold, in files `<path>.<number>` of a directory that is there; also from
 * a process that has ended without releasing it. It throws what the file system says.
 *
 * The lock is the file with the highest number: who takes it makes the next one, which link(2) lets one do. The highest is
 * never removed, only marked as released, so that numbers never come again, and nobody can take what another one holds.
 */
export function takeProcessLock(path: string, about: string): LockOutcome {
  const own: LockHolder = { pid: process.pid, started: startOf(process.pid), about };
  const draft = `${path}.${randomBytes(8).toString('hex')}.draft`;
  try {
    // The lock gets its name when it is whole.
    writeFileSync(draft, JSON.stringify(own), { mode: FILE_MODE, flag: 'wx' });
    chmodSync(draft, FILE_MODE);
    for (;;) {
      const highest = Math.max(0, ...numbersOf(path));
      const holder = readHolder(`${path}.${highest}`);
      if (holder !== null) return { release: null, holder };
      const mine = highest + 1;
      if (!tryLink(draft, `${path}.${mine}`)) continue;
      // Who looked long ago may have made a number that is over.
      const present = numbersOf(path);
      const isHighest = present.every(number => number <= mine);
      for (const number of present)
        if (isHighest ? number < mine : number === mine) rmSync(`${path}.${number}`, { force: true });
      if (isHighest) return { release: () => release(`${path}.${mine}`), holder: null };
    }
  } finally {
    rmSync(draft, { force: true });
  }
}

/** Who holds a lock now. */
export function lockHolder(path: string): LockHolder | null {
  try {
    return readHolder(`${path}.${Math.max(0, ...numbersOf(path))}`);
  } catch {
    return null;
  }
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  }
}

function numbersOf(path: string): number[] {
  const prefix = `${basename(path)}.`;
  return readdirSync(dirname(path)).flatMap(name => {
    const number = name.startsWith(prefix) ? name.slice(prefix.length) : '';
    return /^\d{1,15}$/.test(number) ? [Number(number)] : [];
  });
}

/** Where it cannot be marked, on a full disk, the end of the process releases it. */
function release(path: string): void {
  const released = `${path}.released`;
  try {
    writeFileSync(released, '{}', { mode: FILE_MODE });
    chmodSync(released, FILE_MODE);
    renameSync(released, path);
  } catch {
    rmSync(released, { force: true });
  }
}

/** Null: nobody holds it, or a process that has ended. */
function readHolder(path: string): LockHolder | null {
  try {
    const holder = JSON.parse(readFileSync(path, 'utf8')) as LockHolder;
    return Number.isInteger(holder.pid) && holder.pid > 0 && isAlive(holder) ? holder : null;
  } catch {
    // Released, not there, or cut off by a machine that failed.
    return null;
  }
}

function isAlive({ pid, started }: LockHolder): boolean {
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
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    // A zombie has ended.
    if (/^[ZX]/.test(fields[0] ?? '')) return '';
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}:${fields[19]}`;
  } catch {
    return null;
  }
}
