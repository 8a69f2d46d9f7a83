import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { chown, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { delay } from '../../base/abort.ts';
import { AppError, fileError, messageOf } from '../../base/errors.ts';
import { isAlive, runningServer } from './data-directory.ts';
import { diesWithUs, guardAgainstExit } from './isolated-server-guard.ts';
import { type Settings, settingLine } from './recovery-settings.ts';
import { actAs, type Owner, plainEnvironment } from './service-process.ts';

const PREFIX = 'aishell-isolated-';
const OWNER_FILE = 'aishell.pid';
const CONFIGURATION_FILE = 'postgresql.conf';

/** A directory for the server's socket and its configuration, which no other user can enter. `settings`: of its main file. */
export async function makePrivateDirectory(owner: Owner, settings: Settings): Promise<string> {
  // A socket's path may have 107 bytes.
  const parent = tmpdir().length <= 60 ? tmpdir() : '/tmp';
  await removeAbandoned(parent);
  const directory = await mkdtemp(join(parent, PREFIX));
  try {
    await writeFile(join(directory, OWNER_FILE), String(process.pid));
    await writeConfiguration(directory, settings);
    await writeFile(join(directory, 'pg_hba.conf'), 'local all all trust\n');
    await writeFile(join(directory, 'pg_ident.conf'), '');
    if (process.getuid?.() === 0) await chown(directory, owner.uid, owner.gid);
    return directory;
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw fileError('prepare', directory, error);
  }
}

/** What a server takes anew when it is told to; what its command line says wins. */
export async function writeConfiguration(privateDirectory: string, settings: Settings): Promise<void> {
  const lines = Object.entries(settings).map(([name, value]) => `${settingLine(name, value)}\n`);
  await writeFile(join(privateDirectory, CONFIGURATION_FILE), lines.join(''));
}

/** A program that was killed could not remove its directory: the next one does. Those of other users are left alone. */
async function removeAbandoned(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    if (!name.startsWith(PREFIX)) continue;
    const directory = join(parent, name);
    const pid = Number(await readFile(join(directory, OWNER_FILE), 'utf8').catch(() => ''));
    if (pid > 0 && !(await isAlive(pid)))
      await rm(directory, { recursive: true, force: true }).catch(() => undefined);
  }
}

/**
 * Ends an isolated server that an earlier run of this program, killed, has left in the directory.
 *
 * @throws TARGET_RUNNING the server that runs there is not one of ours
 */
export async function stopLeftOver(dataDirectory: string): Promise<void> {
  const server = await runningServer(dataDirectory);
  if (server === null) return;
  if (!basename(server.socketDirectory).startsWith(PREFIX)) {
    throw new AppError(
      'TARGET_RUNNING',
      `unable to recover '${dataDirectory}': a server is running there (process ${server.pid})`,
      {
        hint: 'Stop it, or choose another directory.',
      },
    );
  }
  for (const [signal, graceMs] of [
    ['SIGINT', 10_000],
    ['SIGQUIT', 10_000],
    ['SIGKILL', 5000],
  ] as const) {
    signalQuietly(server.pid, signal);
    for (let waitedMs = 0; waitedMs < graceMs && (await isAlive(server.pid)); waitedMs += 50) await delay(50);
    if (!(await isAlive(server.pid))) break;
  }
  await rm(server.socketDirectory, { recursive: true, force: true });
}

export interface LaunchOptions {
  readonly postgres: string;
  readonly dataDirectory: string;
  readonly owner: Owner;
  readonly settings: Settings;
  readonly logFile: string;
  readonly env: NodeJS.ProcessEnv;
}

/** A running `postgres`, started by this program and ended with it. */
export interface LaunchedServer {
  readonly pid: number;
  /** Where its part of the log begins. */
  readonly logOffset: number;
  /** Resolves when the process has ended. */
  readonly ended: Promise<void>;
  hasEnded(): boolean;
  signal(signal: NodeJS.Signals): void;
}

/** Starts the server; it is not waited for. @throws PROGRAM_NOT_FOUND SERVICE_FAILED FILE_FAILED */
export async function launch(options: LaunchOptions): Promise<LaunchedServer> {
  const identity = actAs(options.owner, options.dataDirectory);
  const settings = Object.entries(options.settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const argv = [...(await diesWithUs()), options.postgres, '-D', options.dataDirectory, ...settings];
  await using log = await openLog(options.logFile, identity);
  const logOffset = (await log.stat()).size;
  const child = spawn(argv[0]!, argv.slice(1), {
    ...identity,
    cwd: '/',
    env: { ...plainEnvironment(), ...options.env },
    stdio: ['ignore', log.fd, log.fd],
    // Ctrl-C in a terminal is for this program, which then ends the server in its own way.
    detached: true,
  });
  await started(child, options.postgres);
  return launched(child, logOffset);
}

function launched(child: ChildProcess, logOffset: number): LaunchedServer {
  const pid = child.pid!;
  const release = guardAgainstExit(() => signalQuietly(pid, 'SIGQUIT'));
  const hasEnded = (): boolean => child.exitCode !== null || child.signalCode !== null;
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  child.once('exit', () => {
    release();
    resolve();
  });
  if (hasEnded()) {
    release();
    resolve();
  }
  return {
    pid,
    logOffset,
    ended,
    hasEnded,
    signal: signal => {
      if (!hasEnded()) signalQuietly(pid, signal);
    },
  };
}

async function started(child: ChildProcess, postgres: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  child.once('spawn', resolve);
  child.once('error', error => {
    reject(
      new AppError('PROGRAM_NOT_FOUND', `unable to run '${postgres}': ${messageOf(error)}`, { cause: error }),
    );
  });
  await promise;
}

async function openLog(
  path: string,
  identity: { uid?: number; gid?: number },
): Promise<Awaited<ReturnType<typeof open>>> {
  // The directory may belong to another user, who could have put a link of this name there for root to write through.
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW;
  try {
    const file = await open(path, flags, 0o600);
    if (identity.uid !== undefined && identity.gid !== undefined)
      await file.chown(identity.uid, identity.gid);
    return file;
  } catch (error) {
    throw fileError('write', path, error);
  }
}

function signalQuietly(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It ended by itself.
  }
}

/** The segment that the server replays just now, as its startup process shows it in its title; null when it does not. */
export async function replayedSegment(postmasterPid: number): Promise<string | null> {
  const children = await readFile(`/proc/${postmasterPid}/task/${postmasterPid}/children`, 'utf8').catch(
    () => '',
  );
  for (const child of children.split(' ').filter(Boolean)) {
    const title = await readFile(`/proc/${child}/cmdline`, 'utf8').catch(() => '');
    const match = /startup\s+(?:recovering|waiting for)\s+([0-9A-F]{24})/.exec(title);
    if (match) return match[1]!;
  }
  return null;
}

/** Where the log of an isolated server is kept unless told otherwise; backups leave out files of this name. */
export function defaultLogFile(dataDirectory: string): string {
  return join(dataDirectory, 'aishell-recovery.log');
}
