import { spawn } from 'node:child_process';
import { readdir, readFile, readlink, realpath } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError, messageOf, systemCode } from '../../base/errors.ts';

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

export interface RunResult {
  readonly exitCode: number;
  /** Standard output and standard error as they came. */
  readonly output: string;
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

/**
 * Runs a program to its end and collects what it prints. It gets a session of its own, so that Ctrl-C in a terminal
 * reaches this program alone, which then decides what to stop and in what order.
 *
 * @throws PROGRAM_NOT_FOUND there is no such program; the signal's reason when cancelled
 */
export async function runAs(
  command: string,
  args: readonly string[],
  options: RunOptions,
): Promise<RunResult> {
  options.signal?.throwIfAborted();
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    ...(options.user === null ? {} : { uid: options.user.uid, gid: options.user.gid }),
  });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk));
  const stop = (): void => void child.kill('SIGTERM');
  options.signal?.addEventListener('abort', stop, { once: true });
  try {
    const exitCode = await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => resolve(code ?? (signal === null ? 1 : 128)));
    });
    options.signal?.throwIfAborted();
    return { exitCode, output: Buffer.concat(chunks).toString('utf8') };
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    throw new AppError('PROGRAM_NOT_FOUND', `unable to run '${command}': ${messageOf(error)}`, {
      cause: error,
    });
  } finally {
    options.signal?.removeEventListener('abort', stop);
  }
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
 * Ends every process that works in a directory or runs a program from it, and waits until all are gone: at once, with
 * SIGKILL for what does not go within five seconds. For directories this program made, so that nothing is left behind
 * whatever was going on in them. Where there is no /proc it does nothing.
 */
export async function stopProcessesUnder(directory: string): Promise<void> {
  const startedAt = performance.now();
  for (;;) {
    const found = await processesUnder(directory);
    if (found.length === 0) return;
    // SIGQUIT is PostgreSQL's immediate shutdown, and ends a Node program too.
    const signal = performance.now() - startedAt > 5000 ? 'SIGKILL' : 'SIGQUIT';
    for (const pid of found) signalQuietly(pid, signal);
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
