import { type ChildProcess, spawn } from 'node:child_process';
import { inject } from 'vitest';

export type JsonLine = Record<string, unknown> & { readonly type: string };

export interface CliResult {
  /** null when a signal ended it. */
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
  /** The lines of standard output that are JSON objects, as `--json` prints them. */
  readonly json: readonly JsonLine[];
}

export interface CliOptions {
  /** Beside PATH and HOME this is all the program gets: nothing of the test's own environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** As the account that runs the servers (default); otherwise as whoever runs the tests. */
  readonly asServerUser?: boolean;
  /** For its standard input, which is empty otherwise. */
  readonly input?: string;
  /** A directory that account can enter; its home unless given. */
  readonly cwd?: string;
  /** After it the program is killed and the call rejects; two minutes unless given. */
  readonly timeoutMs?: number;
}

export interface RunningCli {
  readonly process: ChildProcess;
  /** What it printed so far. */
  stdout(): string;
  readonly done: Promise<CliResult>;
}

/** Starts `aishell` from the copy that every account can run. */
export function startCli(args: readonly string[], options: CliOptions = {}): RunningCli {
  const { program, home, user } = inject('harness');
  if ('buildError' in program) throw new Error(program.buildError);
  const account = options.asServerUser === false ? null : user;
  const startedAt = performance.now();
  const child = spawn(program.launcher, args, {
    cwd: options.cwd ?? home,
    env: {
      PATH: '/usr/local/bin:/usr/bin:/bin',
      HOME: home,
      LC_ALL: 'C.UTF-8',
      AISHELL_SUMMARIES: 'later',
      ...options.env,
    },
    stdio: ['pipe', 'pipe', 'pipe'],
    // A session of its own: a timeout kills what it started with it.
    detached: true,
    ...(account === null ? {} : { uid: account.uid, gid: account.gid }),
  });
  // It may end without reading its input.
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.input ?? '');
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });

  const timeoutMs = options.timeoutMs ?? 120_000;
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  }, timeoutMs);
  const done = new Promise<CliResult>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (exitCode, signal) => {
      clearTimeout(timer);
      if (timedOut) {
        reject(new Error(`aishell ${args.join(' ')}: not done after ${timeoutMs} ms\n${stdout}\n${stderr}`));
        return;
      }
      const seconds = (performance.now() - startedAt) / 1000;
      resolve({ exitCode, signal, stdout, stderr, seconds, json: parseLines(stdout) });
    });
  });
  return { process: child, stdout: () => stdout, done };
}

/** Runs `aishell` to its end. */
export async function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  return startCli(args, options).done;
}

/** Runs `aishell`, and fails with all it printed unless it ends with 0. */
export async function runCliOk(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const result = await runCli(args, options);
  if (result.exitCode !== 0) {
    throw new Error(
      `aishell ${args.join(' ')}: exit ${result.exitCode ?? result.signal}\n${result.stdout}\n${result.stderr}`,
    );
  }
  return result;
}

function parseLines(stdout: string): JsonLine[] {
  return stdout
    .split('\n')
    .filter(line => line.startsWith('{'))
    .map(line => JSON.parse(line) as JsonLine);
}
