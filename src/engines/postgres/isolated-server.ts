import { chown, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { delay } from '../../base/abort.ts';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { connect, queryRow } from './connection.ts';
import type { ConnectionSettings } from './connection-target.ts';
import { type ControlFile, readControlFile } from './control-file.ts';
import { readLogTail, recoveryError } from './isolated-server-log.ts';
import {
  defaultLogFile,
  type LaunchedServer,
  launch,
  makePrivateDirectory,
  replayedSegment,
  stopLeftOver,
  writeConfiguration,
} from './isolated-server-process.ts';
import {
  ISOLATED_PORT,
  insufficientSettings,
  isolatedSettings,
  keptLog,
} from './isolated-server-settings.ts';
import type { Settings } from './recovery-settings.ts';
import { isoTime } from './server-facts.ts';
import type { Binaries } from './service-binaries.ts';
import { ownerOf } from './service-process.ts';

export interface IsolatedServerOptions {
  /** A restored directory, complete with backup_label or a clean pg_control, and a signal file when it shall recover. */
  readonly dataDirectory: string;
  readonly binaries: Pick<Binaries, 'postgres'>;
  /** A superuser of the copy; the one that initdb made always exists. `postgres` unless given. */
  readonly superuser?: string;
  /** Beside those that isolate it, which they cannot undo by accident: they win. Usually `recoverySettings(…)`. */
  readonly settings: Settings;
  /** As fast as can be; after a crash of the machine the directory is worthless unless every file was flushed. */
  readonly disposable: boolean;
  /** Can it be queried while it recovers? True unless given. */
  readonly hotStandby?: boolean;
  /** Settings that a recovery needs to be at least as high as these, beside what the control file of the directory says. */
  readonly atLeast?: Partial<Pick<ControlFile, RaisedSetting>>;
  /** None unless given: an extension's own background workers are what a copy must not start. */
  readonly sharedPreloadLibraries?: string;
  /** `aishell-recovery.log` in the directory unless given. */
  readonly logFile?: string;
  /** Added to the server's environment, which otherwise has nothing of this program's: for its restore_command. */
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
}

export interface ReplayProgress {
  /** Null while the server does not say. */
  readonly segment: string | null;
  /** Null while it takes no connections yet. */
  readonly replayLsn: string | null;
  /** Of the last commit that was replayed, ISO 8601. */
  readonly replayTime: string | null;
}

export interface ReachedTarget {
  /** `paused` at the target; `open`: the recovery is over and it takes writes; `stopped` at the target. */
  readonly state: 'paused' | 'open' | 'stopped';
  readonly lsn: string | null;
  readonly replayTime: string | null;
}

export type IsolatedStopMode = 'smart' | 'fast' | 'immediate' | 'kill';

/**
 * A server on a restored directory that nobody but this program reaches, and that reaches nothing itself. It ends with
 * this program, however that ends.
 */
export interface IsolatedServer extends AsyncDisposable {
  readonly logFile: string;
  readonly connection: ConnectionSettings;
  /**
   * Waits until the recovery has reached its target, or the server is open.
   * @throws RECOVERY_FAILED with the server's own words; the signal's reason when cancelled (it runs on)
   */
  waitForTarget(options?: {
    readonly signal?: AbortSignal;
    readonly onProgress?: (progress: ReplayProgress) => void;
  }): Promise<ReachedTarget>;
  connect(database?: string, signal?: AbortSignal): Promise<pg.Client>;
  /**
   * Tells a server with a standby.signal that no more log comes: it replays all that lies in pg_wal, then opens on a new
   * timeline. Needs no connection. Where it has not come far enough to hear it, nothing happens: say it again.
   */
  promote(): Promise<void>;
  /** The words of its log since it was started, the last ones. */
  readLog(): Promise<string>;
  /** Whether its process is gone; {@link waitForTarget} says why. */
  hasEnded(): boolean;
  /** Resolves when it has ended; fine when it had. `smart` waits for clients. The next harder mode follows after a minute. */
  stop(mode?: IsolatedStopMode): Promise<void>;
}

const POLL_MS = 100;
const STOP_GRACE_MS = 60_000;
const PROMOTE_FILE = 'promote';

/**
 * Starts a server on a restored directory. One that an earlier run left there is ended first.
 *
 * @throws TARGET_RUNNING another server runs there
 * @throws PROGRAM_NOT_FOUND FILE_FAILED SERVICE_FAILED (it belongs to root)
 */
export async function startIsolatedServer(options: IsolatedServerOptions): Promise<IsolatedServer> {
  options.signal?.throwIfAborted();
  await stopLeftOver(options.dataDirectory);
  const server = new Isolated(options);
  await server.start();
  return server;
}

class Isolated implements IsolatedServer {
  readonly logFile: string;
  readonly #options: IsolatedServerOptions;
  #privateDirectory = '';
  #raised: Settings = {};
  #process: LaunchedServer | null = null;
  #poll: pg.Client | null = null;

  constructor(options: IsolatedServerOptions) {
    this.#options = options;
    this.logFile = options.logFile ?? defaultLogFile(options.dataDirectory);
  }

  get connection(): ConnectionSettings {
    return {
      host: this.#privateDirectory,
      port: ISOLATED_PORT,
      user: this.#options.superuser ?? 'postgres',
      database: 'template1',
      password: async () => '',
      sslMode: 'disable',
    };
  }

  async start(): Promise<void> {
    const { dataDirectory, binaries } = this.#options;
    const [owner, control] = [await ownerOf(dataDirectory), await readControlFile(dataDirectory)];
    const kept = keptLog('replaying', control.walSegmentSize);
    if (this.#privateDirectory === '') this.#privateDirectory = await makePrivateDirectory(owner, kept);
    const isolating = isolatedSettings({
      control: raise(control, this.#options.atLeast ?? {}),
      privateDirectory: this.#privateDirectory,
      hotStandby: this.#options.hotStandby ?? true,
      disposable: this.#options.disposable,
      sharedPreloadLibraries: this.#options.sharedPreloadLibraries ?? '',
    });
    try {
      this.#process = await launch({
        postgres: binaries.postgres,
        dataDirectory,
        owner,
        settings: { ...this.#options.settings, ...isolating, ...this.#raised },
        logFile: this.logFile,
        env: this.#options.env ?? {},
      });
    } catch (error) {
      await this.#removePrivateDirectory();
      throw error;
    }
  }

  async waitForTarget(
    options: { readonly signal?: AbortSignal; readonly onProgress?: (progress: ReplayProgress) => void } = {},
  ): Promise<ReachedTarget> {
    const { signal } = options;
    while (true) {
      signal?.throwIfAborted();
      const server = this.#process;
      if (server === null || server.hasEnded()) {
        const stopped = await this.#whyEnded(server);
        if (stopped !== null) return stopped;
        continue;
      }
      const segment = await replayedSegment(server.pid);
      // One that takes no connections while it recovers is only asked once it seems to be through.
      const isBusy = this.#options.hotStandby === false && segment !== null;
      const state = isBusy ? null : await this.#ask(signal);
      if (state !== null && !state.recovering) {
        await this.#keepAllLog(server);
        return { state: 'open', lsn: state.lsn, replayTime: state.time };
      }
      if (state?.paused === true && !(await this.#raiseSettings())) {
        return { state: 'paused', lsn: state.lsn, replayTime: state.time };
      }
      options.onProgress?.({
        segment,
        replayLsn: state?.lsn ?? null,
        replayTime: state?.time ?? null,
      });
      await Promise.race([delay(POLL_MS, signal), server.ended]);
    }
  }

  /** Of what it writes from now on nothing is removed. */
  async #keepAllLog(server: LaunchedServer): Promise<void> {
    const { walSegmentSize } = await readControlFile(this.#options.dataDirectory);
    await writeConfiguration(this.#privateDirectory, keptLog('open', walSegmentSize));
    server.signal('SIGHUP');
  }

  /** The server's end: at its target; or null when it was started again with what it lacked. @throws RECOVERY_FAILED */
  async #whyEnded(server: LaunchedServer | null): Promise<ReachedTarget | null> {
    const log = await readLogTail(this.logFile, server?.logOffset ?? 0);
    await this.#closePoll();
    if (/shutdown at recovery target/.test(log)) return { state: 'stopped', lsn: null, replayTime: null };
    if (server !== null && (await this.#raiseSettings())) return null;
    throw recoveryError(this.#options.dataDirectory, log, this.logFile);
  }

  /**
   * Where production raised a setting after the backup, the recovery pauses or ends as it comes to that place: it is
   * started again with the higher value, and goes on from there.
   */
  async #raiseSettings(): Promise<boolean> {
    const needed = insufficientSettings(await readLogTail(this.logFile, this.#process?.logOffset ?? 0));
    // What was raised before and still is too low would be raised for ever.
    if (Object.entries(needed).every(([name, value]) => this.#raised[name] === value)) return false;
    await this.#end('fast');
    this.#raised = { ...this.#raised, ...needed };
    await this.start();
    return true;
  }

  async #ask(signal: AbortSignal | undefined): Promise<ReplayState | null> {
    try {
      this.#poll ??= await this.connect(undefined, signal);
      return await queryRow<ReplayState>(this.#poll, 'ask how far the recovery is', { text: replaySql });
    } catch (error) {
      await this.#closePoll();
      signal?.throwIfAborted();
      // Not reachable yet: it is starting, not consistent yet, or has just ended, which the next round sees.
      if (error instanceof AppError && error.code === 'DATABASE_UNREACHABLE') return null;
      throw error;
    }
  }

  async connect(database?: string, signal?: AbortSignal): Promise<pg.Client> {
    return await connect(this.connection, {
      applicationName: 'aishell recovery',
      env: {},
      ...(database === undefined ? {} : { database }),
      ...(signal === undefined ? {} : { signal }),
    });
  }

  /** @source xlogrecovery.c, CheckPromoteSignal; postmaster.c, process_pm_pmsignal (sigusr1_handler before 16) */
  async promote(): Promise<void> {
    const { dataDirectory } = this.#options;
    const path = join(dataDirectory, PROMOTE_FILE);
    try {
      await writeFile(path, '', { mode: 0o600 });
      if (process.getuid?.() === 0) {
        const { uid, gid } = await ownerOf(dataDirectory);
        await chown(path, uid, gid);
      }
    } catch (error) {
      // The server, told before, has just taken it away.
      if (systemCode(error) !== 'ENOENT') throw fileError('write', path, error);
    }
    this.#process?.signal('SIGUSR1');
  }

  readLog(): Promise<string> {
    return readLogTail(this.logFile, this.#process?.logOffset ?? 0);
  }

  hasEnded(): boolean {
    return this.#process === null || this.#process.hasEnded();
  }

  async stop(mode: IsolatedStopMode = 'fast'): Promise<void> {
    await this.#end(mode);
    await this.#removePrivateDirectory();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop(this.#options.disposable ? 'immediate' : 'fast');
  }

  async #end(mode: IsolatedStopMode): Promise<void> {
    await this.#closePoll();
    const server = this.#process;
    const modes = ['smart', 'fast', 'immediate', 'kill'] as const;
    for (const step of modes.slice(modes.indexOf(mode))) {
      if (server === null || server.hasEnded()) break;
      server.signal(stopSignals[step]);
      const patience = new AbortController();
      await Promise.race([server.ended, delay(STOP_GRACE_MS, patience.signal).catch(() => undefined)]);
      patience.abort();
    }
  }

  async #closePoll(): Promise<void> {
    const client = this.#poll;
    this.#poll = null;
    await client?.end().catch(() => undefined);
  }

  async #removePrivateDirectory(): Promise<void> {
    if (this.#privateDirectory !== '') await rm(this.#privateDirectory, { recursive: true, force: true });
    this.#privateDirectory = '';
  }
}

const raisedSettings = [
  'maxConnections',
  'maxWorkerProcesses',
  'maxWalSenders',
  'maxPreparedTransactions',
  'maxLocksPerTransaction',
] as const;
type RaisedSetting = (typeof raisedSettings)[number];

function raise(control: ControlFile, atLeast: Partial<Pick<ControlFile, RaisedSetting>>): ControlFile {
  const higher = raisedSettings.map(name => [name, Math.max(control[name], atLeast[name] ?? 0)] as const);
  return { ...control, ...Object.fromEntries(higher) };
}

/** @source PostgreSQL manual, "Shutting Down the Server" */
const stopSignals = { smart: 'SIGTERM', fast: 'SIGINT', immediate: 'SIGQUIT', kill: 'SIGKILL' } as const;

interface ReplayState {
  readonly recovering: boolean;
  readonly paused: boolean;
  readonly lsn: string | null;
  readonly time: string | null;
}

const replaySql = `
  select pg_is_in_recovery() as recovering,
         case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() = 'paused' else false end as paused,
         (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end)::text as lsn,
         ${isoTime('pg_last_xact_replay_timestamp()')} as time`;
