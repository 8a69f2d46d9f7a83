import { readdir, readFile, readlink, realpath } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError, systemCode } from '../../base/errors.ts';
import { type CommandResult, runCommand } from '../../base/run-command.ts';

/** An ordinary account of the operating system that runs a server when this program runs as root. */
export interface ServerUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

export interface RunOptions {
  /** null: as whoever runs this program. */
  readonly user: ServerUser | null;
  /** Must be a directory the user can enter. */
  readonly cwd: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
}

/**
 * The account to run servers as: PostgreSQL refuses root. As root the first of `postgres` and `nobody` that exists, as
 * anyone else null, which means that account itself.
 *
 * @throws SERVICE_FAILED root on a machine that has neither account
 */
export async function chooseServerUser(): Promise<ServerUser | null> {
  if (process.getuid?.() !== 0) return null;
  const accounts = await readFile('/etc/passwd', 'utf8');
  for (const name of ['postgres', 'nobody']) {
    const fields = accounts
      .split('\n')
      .find(line => line.startsWith(`${name}:`))
      ?.split(':');
    const [uid, gid] = [Number(fields?.[2]), Number(fields?.[3])];
    if (Number.isInteger(uid) && Number.isInteger(gid) && uid > 0) return { name, uid, gid };
  }
  throw new AppError(
    'SERVICE_FAILED',
    "unable to run PostgreSQL as root: there is no account 'postgres' or 'nobody'",
    {
      hint: 'Run this command as an ordinary user.',
    },
  );
}

/** Runs a program as an account; otherwise as `runCommand`, which says what it throws. */
export async function runAs(
  command: string,
  args: readonly string[],
  options: RunOptions,
): Promise<CommandResult> {
  const { user, ...rest } = options;
  return runCommand([command, ...args], {
    ...rest,
    ...(user === null ? {} : { uid: user.uid, gid: user.gid }),
  });
}

/** Whether an account can read all these paths (and enter what lies above them); asked of the system, not computed. */
export async function canRead(user: ServerUser | null, paths: readonly string[]): Promise<boolean> {
  const script = 'for path; do test -r "$path" || exit 1; done';
  const { exitCode } = await runAs('/bin/sh', ['-c', script, 'sh', ...paths], { user, cwd: '/' });
  return exitCode === 0;
}

/** Whether an account can enter a directory or run a program. */
export async function canExecute(user: ServerUser | null, path: string): Promise<boolean> {
  const { exitCode } = await runAs('/bin/sh', ['-c', 'test -x "$1"', 'sh', path], { user, cwd: '/' });
  return exitCode === 0;
}

/**
 * The first of the system's directories for temporary files that the account can enter: root's own TMPDIR often is not.
 *
 * @throws FILE_FAILED there is none
 */
export async function temporaryParent(user: ServerUser | null): Promise<string> {
  for (const candidate of [tmpdir(), '/tmp', '/var/tmp']) {
    if (await canExecute(user, candidate)) return realpath(candidate);
  }
  throw new AppError(
    'FILE_FAILED',
    `unable to use '${tmpdir()}': ${user?.name ?? 'this account'} cannot enter it`,
    {
      hint: 'Set TMPDIR to a directory that everyone can enter.',
    },
  );
}

/**
 * Ends every process that works in a directory or runs a program from it, and waits until all are gone; what does
 * not go within five seconds is killed. For directories this program made, so that nothing is left behind
 * whatever was going on in them. Where there is no /proc it does nothing.
 */
export async function stopProcessesUnder(directory: string): Promise<void> {
  const startedAt = performance.now();
  const asked = new Set<number>();
  for (;;) {
    const found = await processesUnder(directory);
    if (found.length === 0) return;
    const late = performance.now() - startedAt > 5000;
    for (const pid of found) {
      // SIGINT is PostgreSQL's fast shutdown, and ends what runs in a terminal.
      if (late) signalQuietly(pid, 'SIGKILL');
      else if (!asked.has(pid)) signalQuietly(pid, 'SIGINT');
      asked.add(pid);
    }
    await sleep(50);
  }
}

async function processesUnder(directory: string): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir('/proc').catch(() => [])) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    for (const what of ['cwd', 'exe']) {
      // Not ours to look at, or gone by now; a process that has ended has neither.
      const path = await readlink(`/proc/${pid}/${what}`).catch(() => '');
      if (`${path}/`.startsWith(`${directory}/`)) {
        found.push(pid);
        break;
      }
    }
  }
  return found;
}

/** Signals a process; one that has ended meanwhile is fine. */
export function signalQuietly(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (systemCode(error) !== 'ESRCH') throw error;
  }
}
