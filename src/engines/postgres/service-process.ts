import { readFile, readlink, stat } from 'node:fs/promises';
import { abortable, delay } from '../../base/abort.ts';
import { AppError } from '../../base/errors.ts';
import { type CommandResult, runCommand } from '../../base/run-command.ts';
import { isAlive, runningServer } from './data-directory.ts';

export const STOP_TIMEOUT_MS = 300_000;
export const START_TIMEOUT_MS = 300_000;
const POLL_MS = 100;

/** The operating system's user that owns a data directory. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
  /** Null when this machine has no name for it. */
  readonly name: string | null;
}

/** Who owns a path. @source passwd(5) */
export async function ownerOf(path: string): Promise<Owner> {
  const { uid, gid } = await stat(path);
  const accounts = await readFile('/etc/passwd', 'utf8').catch(() => '');
  const line = accounts.split('\n').find(account => account.split(':')[2] === String(uid));
  return { uid, gid, name: line?.split(':')[0] ?? null };
}

/** Options for `spawn` and `runCommand` to act as the owner: PostgreSQL refuses root and every other user. @throws SERVICE_FAILED */
export function actAs(owner: Owner, dataDirectory: string): { uid?: number; gid?: number } {
  const self = process.getuid?.();
  if (owner.uid === 0) {
    throw new AppError('SERVICE_FAILED', `unable to run a server in '${dataDirectory}': it belongs to root`, {
      hint: 'PostgreSQL does not run as root: chown -R the directory to the user that shall run it.',
    });
  }
  if (self === undefined || self === owner.uid) return {};
  if (self === 0) return { uid: owner.uid, gid: owner.gid };
  throw new AppError(
    'SERVICE_FAILED',
    `unable to run a server in '${dataDirectory}': it belongs to ${describeOwner(owner)}`,
    {
      hint: `Run aishell as root or as ${describeOwner(owner)}.`,
    },
  );
}

function describeOwner(owner: Owner): string {
  return owner.name ?? `user ${owner.uid}`;
}

/** What runs a command as the owner when that is not who we are, for commands that a person shall paste: root needs no sudo. */
export function sudoPrefix(owner: Owner): string {
  if (process.getuid?.() === owner.uid) return '';
  const isRoot = process.getuid?.() === 0;
  return isRoot && owner.name !== null
    ? `runuser -u ${owner.name} -- `
    : `sudo -u ${owner.name ?? `'#${owner.uid}'`} `;
}

/** An argument as the shell takes it whatever is in it. */
export function shellQuote(argument: string): string {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", `'\\''`)}'`;
}

export function shellCommand(argv: readonly string[]): string {
  return argv.map(shellQuote).join(' ');
}

/** What a server that this program starts inherits: no secrets of ours, and no settings for clients. */
export function plainEnvironment(): NodeJS.ProcessEnv {
  const kept = /^(PATH|HOME|LANG|LANGUAGE|LC_.*|TZ|USER|LOGNAME|LD_LIBRARY_PATH)$/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => kept.test(name)));
}

/** The environment a process was started with; null when it may not be read. @source proc(5) */
export async function environmentOf(pid: number): Promise<NodeJS.ProcessEnv | null> {
  const text = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
  const entries = text.split('\0').flatMap(entry => {
    const match = /^([A-Za-z_]\w*)=(.*)$/s.exec(entry);
    // pg_ctl tells the server with this who its grandparent is; the new one has another.
    return match && match[1] !== 'PG_GRANDPARENT_PID' ? [[match[1], match[2]] as const] : [];
  });
  return entries.length === 0 ? null : Object.fromEntries(entries);
}

/** The regular file that a process writes its output to; null when there is none, or it may not be seen. */
export async function outputFileOf(pid: number): Promise<string | null> {
  const path = await readlink(`/proc/${pid}/fd/2`).catch(() => '');
  const found = path.startsWith('/') ? await stat(path).catch(() => null) : null;
  return found?.isFile() === true ? path : null;
}

/** Fails when a command that starts or stops a server did. */
export function assertSucceeded(result: CommandResult, doing: string, argv: readonly string[]): void {
  if (result.exitCode === 0) return;
  throw new AppError(
    'SERVICE_FAILED',
    `unable to ${doing}: exit code ${result.exitCode}: ${lastLines(`${result.stdout}\n${result.stderr}`, 4)}`,
    {
      hint: `The command was: ${shellCommand(argv)}`,
    },
  );
}

/** The end of a text, on one line. */
export function lastLines(text: string, count: number): string {
  const lines = text
    .split('\n')
    .map(line => line.trim())
    .filter(line => line !== '');
  return lines.slice(-count).join(' | ') || 'it printed nothing';
}

/** Waits until no server runs in the directory, and its process is gone. @throws TIMEOUT */
export async function waitUntilStopped(
  dataDirectory: string,
  pid: number | null,
  options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
): Promise<void> {
  const deadline = performance.now() + options.timeoutMs;
  while ((pid !== null && (await isAlive(pid))) || (await runningServer(dataDirectory)) !== null) {
    if (performance.now() > deadline) {
      throw new AppError(
        'TIMEOUT',
        `unable to stop the server in '${dataDirectory}': it still runs after ${options.timeoutMs / 1000} seconds`,
        {
          hint: 'A backend may be stuck in a write; see its log. Nothing was changed.',
        },
      );
    }
    await delay(POLL_MS, options.signal);
  }
}

/** Waits until a server in the directory is ready. @throws SERVICE_FAILED it ended again; TIMEOUT */
export async function waitUntilReady(
  dataDirectory: string,
  options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
): Promise<void> {
  const deadline = performance.now() + options.timeoutMs;
  let seen = false;
  while (true) {
    const server = await runningServer(dataDirectory);
    if (server !== null && /^(ready|standby)$/.test(server.status)) return;
    if (seen && server === null) throw endedAgain(dataDirectory);
    seen ||= server !== null;
    if (performance.now() > deadline) {
      throw new AppError(
        'TIMEOUT',
        `unable to start the server in '${dataDirectory}': it is not ready after ${options.timeoutMs / 1000} seconds`,
        {
          hint: "It may still be recovering; see the server's log.",
        },
      );
    }
    await delay(POLL_MS, options.signal);
  }
}

function endedAgain(dataDirectory: string): AppError {
  return new AppError('SERVICE_FAILED', `unable to start the server in '${dataDirectory}': it ended again`, {
    hint: "The server's log says why.",
  });
}

/** Runs a command that starts a server, unless one runs already, and waits until that is ready. */
export async function startWith(
  dataDirectory: string,
  argv: readonly string[],
  options: { readonly timeoutMs: number; readonly signal?: AbortSignal; readonly doing: string },
): Promise<void> {
  if ((await runningServer(dataDirectory)) === null) {
    assertSucceeded(await runCommand(argv, runOptions(options)), options.doing, argv);
  }
  await waitUntilReady(dataDirectory, options);
}

/** Runs a command that stops a server, if one runs, and waits until it is gone. */
export async function stopWith(
  dataDirectory: string,
  argv: readonly string[],
  options: { readonly timeoutMs: number; readonly signal?: AbortSignal; readonly doing: string },
): Promise<void> {
  const server = await runningServer(dataDirectory);
  if (server === null) return;
  const result = await abortable(runCommand(argv, runOptions(options)), options.signal);
  const gone = (await runningServer(dataDirectory)) === null;
  if (!gone) assertSucceeded(result, options.doing, argv);
  await waitUntilStopped(dataDirectory, server.pid, options);
}

function runOptions(options: { readonly timeoutMs: number; readonly signal?: AbortSignal }): {
  timeoutMs: number;
  signal?: AbortSignal;
} {
  return {
    timeoutMs: options.timeoutMs,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  };
}
