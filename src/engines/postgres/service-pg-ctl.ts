import { chown, mkdir, open, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { runCommand } from '../../base/run-command.ts';
import {
  inspectDataDirectory,
  readPostmasterOptions,
  runningServer,
  withoutDataDirectory,
} from './data-directory.ts';
import { type Binaries, findBinaries } from './service-binaries.ts';
import type { Service, StartOptions, StopOptions } from './service-contract.ts';
import {
  actAs,
  environmentOf,
  lastLines,
  type Owner,
  outputFileOf,
  ownerOf,
  plainEnvironment,
  START_TIMEOUT_MS,
  STOP_TIMEOUT_MS,
  shellCommand,
  shellQuote,
  sudoPrefix,
  waitUntilReady,
  waitUntilStopped,
} from './service-process.ts';

/** How the server was started, so that it can be started in the same way. */
interface Origin {
  readonly dataDirectory: string;
  readonly binaries: Binaries;
  readonly owner: Owner;
  readonly options: readonly string[];
  readonly environment: NodeJS.ProcessEnv;
  readonly logFile: string;
}

/**
 * The server is started and stopped by pg_ctl, as the owner of its directory, with the options, environment and log file
 * that it was last started with.
 *
 * @throws PROGRAM_NOT_FOUND FILE_FAILED
 */
export async function pgCtlService(dataDirectory: string, binaries: string | null): Promise<Service> {
  const facts = await inspectDataDirectory(dataDirectory);
  const running = await runningServer(dataDirectory);
  const last = await readPostmasterOptions(dataDirectory);
  const origin: Origin = {
    dataDirectory,
    binaries: await findBinaries(facts.majorVersion, { configured: binaries, dataDirectory }),
    owner: await ownerOf(dataDirectory),
    options: withoutDataDirectory(last?.options ?? []),
    environment: (running === null ? null : await environmentOf(running.pid)) ?? plainEnvironment(),
    logFile:
      (running === null ? null : await outputFileOf(running.pid)) ??
      join(dataDirectory, 'log', 'aishell-start.log'),
  };
  return {
    kind: 'pg_ctl',
    description: `pg_ctl of PostgreSQL ${origin.binaries.version} (${origin.binaries.directory})`,
    isRunning: async () => (await runningServer(dataDirectory)) !== null,
    stop: async (options = {}) => await stop(origin, options),
    start: async (options = {}) => await start(origin, options),
    startCommand: sudoPrefix(origin.owner) + shellCommand(startArgv(origin, START_TIMEOUT_MS)),
    stopCommand: sudoPrefix(origin.owner) + shellCommand(stopArgv(origin, 'fast', STOP_TIMEOUT_MS)),
  };
}

function startArgv(origin: Origin, timeoutMs: number): string[] {
  // pg_ctl hands these to a shell as they are, hence quoted one by one.
  const options = origin.options.length === 0 ? [] : ['-o', origin.options.map(shellQuote).join(' ')];
  return [...common(origin, timeoutMs), '-l', origin.logFile, ...options, 'start'];
}

function stopArgv(origin: Origin, mode: string, timeoutMs: number): string[] {
  return [...common(origin, timeoutMs), '-m', mode, 'stop'];
}

function common(origin: Origin, timeoutMs: number): string[] {
  return [origin.binaries.pgCtl, '-D', origin.dataDirectory, '-w', '-t', String(Math.ceil(timeoutMs / 1000))];
}

async function stop(origin: Origin, options: StopOptions): Promise<void> {
  const { dataDirectory } = origin;
  const server = await runningServer(dataDirectory);
  if (server === null) return;
  const timeoutMs = options.timeoutMs ?? STOP_TIMEOUT_MS;
  const argv = stopArgv(origin, options.mode ?? 'fast', timeoutMs);
  const result = await runCommand(argv, {
    ...actAs(origin.owner, dataDirectory),
    ...signalOf(options),
    env: origin.environment,
    cwd: '/',
    timeoutMs: timeoutMs + 5000,
  });
  if (result.exitCode !== 0 && (await runningServer(dataDirectory)) !== null) {
    throw failed('stop', origin, argv, lastLines(`${result.stdout}\n${result.stderr}`, 4));
  }
  await waitUntilStopped(dataDirectory, server.pid, { timeoutMs, ...signalOf(options) });
}

async function start(origin: Origin, options: StartOptions): Promise<void> {
  const { dataDirectory } = origin;
  const timeoutMs = options.timeoutMs ?? START_TIMEOUT_MS;
  if ((await runningServer(dataDirectory)) === null) {
    const identity = actAs(origin.owner, dataDirectory);
    await prepareLog(origin, identity);
    const loggedBytes = await sizeOf(origin.logFile);
    const argv = startArgv(origin, timeoutMs);
    const result = await runCommand(argv, {
      ...identity,
      ...signalOf(options),
      env: origin.environment,
      cwd: '/',
      timeoutMs: timeoutMs + 5000,
    });
    if (result.exitCode !== 0) {
      const log = await readFrom(origin.logFile, loggedBytes);
      throw failed(
        'start',
        origin,
        argv,
        lastLines(log.trim() === '' ? `${result.stdout}\n${result.stderr}` : log, 4),
      );
    }
  }
  await waitUntilReady(dataDirectory, { timeoutMs, ...signalOf(options) });
}

function failed(verb: string, origin: Origin, argv: readonly string[], why: string): AppError {
  return new AppError('SERVICE_FAILED', `unable to ${verb} the server in '${origin.dataDirectory}': ${why}`, {
    hint: `The command was: ${shellCommand(argv)}; the server's log is '${origin.logFile}'.`,
  });
}

function signalOf(options: { readonly signal?: AbortSignal }): { signal?: AbortSignal } {
  return options.signal === undefined ? {} : { signal: options.signal };
}

/** The log's directory, made for the server's user when it is missing: a restored directory has it empty or not at all. */
async function prepareLog(origin: Origin, identity: { uid?: number; gid?: number }): Promise<void> {
  const directory = dirname(origin.logFile);
  try {
    if ((await mkdir(directory, { recursive: true, mode: 0o700 })) === undefined) return;
    if (identity.uid !== undefined && identity.gid !== undefined)
      await chown(directory, identity.uid, identity.gid);
  } catch (error) {
    throw fileError('create', directory, error);
  }
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => null))?.size ?? 0;
}

const LOG_BYTES = 64 * 1024;

async function readFrom(path: string, offset: number): Promise<string> {
  try {
    await using file = await open(path, 'r');
    const { bytesRead, buffer } = await file.read(Buffer.alloc(LOG_BYTES), 0, LOG_BYTES, offset);
    return buffer.toString('utf8', 0, bytesRead);
  } catch (error) {
    return systemCode(error);
  }
}
