import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { AppError, assert, messageOf, systemCode } from './errors.ts';

export interface CommandOptions {
  /** Must be a directory the user can enter; `/` unless given when the command runs as somebody else. */
  readonly cwd?: string;
  /** The whole environment; this program's own unless given. */
  readonly env?: NodeJS.ProcessEnv;
  /** Run as this user and group; only root can. */
  readonly uid?: number;
  readonly gid?: number;
  /** After this time the command and what it started is ended, and TIMEOUT is thrown. Without it there is no limit. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** What the command reads; nothing unless given. */
  readonly stdin?: string | Uint8Array;
  /** Of each stream at most this much is kept, its end. 1 MiB unless given. */
  readonly maxOutputBytes?: number;
}

export interface CommandResult {
  /** As a shell counts: 128 and the signal's number when a signal ended it. */
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

const MAX_OUTPUT_BYTES = 1024 * 1024;
/** How long a cancelled command may take to end by itself before it is killed. */
const TERMINATE_GRACE_MS = 5000;
/** A command that started a server leaves its pipes in the server's hands: they are not waited for longer than this. */
const PIPE_GRACE_MS = 250;

const SIGNAL_NUMBERS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGTERM: 15,
};

/**
 * Runs a program to its end, without a shell, and gives what it printed and its exit code, whatever that is. It gets a
 * session of its own, so that Ctrl-C in a terminal reaches this program alone. A server that the command leaves behind
 * in the background is fine.
 *
 * @throws PROGRAM_NOT_FOUND there is no such program, or it cannot be executed
 * @throws TIMEOUT; the signal's reason when cancelled: in both cases the command has ended by then
 */
export async function runCommand(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const [program, ...args] = argv;
  assert(program !== undefined && program !== '', 'runCommand needs a program');
  options.signal?.throwIfAborted();
  const cwd = options.cwd ?? (options.uid === undefined ? undefined : '/');
  const child = spawn(program, args, {
    ...(cwd === undefined ? {} : { cwd }),
    ...(options.uid === undefined ? {} : { uid: options.uid }),
    ...(options.gid === undefined ? {} : { gid: options.gid }),
    env: options.env ?? process.env,
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
  });
  const limit = options.maxOutputBytes ?? MAX_OUTPUT_BYTES;
  const stdout = collect(child.stdout, limit);
  const stderr = collect(child.stderr, limit);
  // A program that does not read its input, or is gone already, is no failure of ours.
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.stdin ?? '');
  const stop = stopper(child, program, options);
  try {
    const exitCode = await ended(child, program, cwd);
    if (stop.reason !== null) throw stop.reason;
    return { exitCode, stdout: stdout.text(), stderr: stderr.text() };
  } finally {
    stop.dispose();
  }
}

interface Stopper {
  reason: unknown;
  dispose(): void;
}

/** Ends the command on timeout or cancellation: politely, then for good, with everything in its process group. */
function stopper(child: ChildProcess, program: string, options: CommandOptions): Stopper {
  const timers: NodeJS.Timeout[] = [];
  const stopper: Stopper = {
    reason: null,
    dispose: () => {
      for (const timer of timers) clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
    },
  };
  const stop = (reason: unknown): void => {
    if (stopper.reason !== null) return;
    stopper.reason = reason;
    killGroup(child, 'SIGTERM');
    timers.push(setTimeout(() => killGroup(child, 'SIGKILL'), TERMINATE_GRACE_MS));
  };
  const onAbort = (): void => stop(options.signal?.reason);
  options.signal?.addEventListener('abort', onAbort, { once: true });
  const { timeoutMs } = options;
  if (timeoutMs !== undefined) {
    const late = (): void =>
      stop(
        new AppError(
          'TIMEOUT',
          `unable to run '${program}': it took longer than ${timeoutMs / 1000} seconds`,
        ),
      );
    timers.push(setTimeout(late, timeoutMs));
  }
  return stopper;
}

function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // It ended by itself.
  }
}

/** Resolves with the exit code once the process has ended and its output has been read, as far as it ends soon. */
function ended(child: ChildProcess, program: string, cwd: string | undefined): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.once('error', error => reject(startError(program, cwd, error)));
  child.once('exit', (code, signal) => {
    const exitCode = code ?? 128 + (SIGNAL_NUMBERS[signal ?? ''] ?? 0);
    const timer = setTimeout(() => {
      child.stdout?.destroy();
      child.stderr?.destroy();
      resolve(exitCode);
    }, PIPE_GRACE_MS);
    child.once('close', () => {
      clearTimeout(timer);
      resolve(exitCode);
    });
  });
  return promise;
}

function startError(program: string, cwd: string | undefined, error: unknown): AppError {
  const code = systemCode(error);
  if (code === 'ENOENT' && cwd !== undefined && !existsSync(cwd)) {
    return new AppError('FILE_FAILED', `unable to run '${program}': there is no directory '${cwd}'`, {
      cause: error,
    });
  }
  const found = code !== 'ENOENT';
  const why = found ? messageOf(error) : 'it is not installed, or not in the PATH';
  return new AppError('PROGRAM_NOT_FOUND', `unable to run '${program}': ${why}`, { cause: error });
}

/** Keeps the end of a stream: that is where a failing program says why. */
function collect(stream: Readable, limit: number): { text(): string } {
  const chunks: Buffer[] = [];
  let length = 0;
  stream.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    length += chunk.length;
    while (chunks.length > 1 && length - chunks[0]!.length >= limit) length -= chunks.shift()!.length;
  });
  stream.on('error', () => undefined);
  return { text: () => Buffer.concat(chunks).subarray(-limit).toString('utf8') };
}
