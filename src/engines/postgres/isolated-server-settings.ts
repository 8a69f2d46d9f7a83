import { totalmem } from 'node:os';
import { MIB } from '../../base/sizes.ts';
import type { ControlFile } from './control-file.ts';
import { isolatingSettingsFor, type Settings } from './recovery-settings.ts';

export interface IsolationRequest {
  /** Of the directory that is started: a recovery needs certain settings to be no lower than on the primary. */
  readonly control: Pick<
    ControlFile,
    | 'majorVersion'
    | 'maxConnections'
    | 'maxWorkerProcesses'
    | 'maxWalSenders'
    | 'maxPreparedTransactions'
    | 'maxLocksPerTransaction'
    | 'trackCommitTimestamp'
    | 'walSegmentSize'
    | 'walLogHints'
  >;
  /** Belongs to the server's user, closed to all others; holds its socket and the files below. */
  readonly privateDirectory: string;
  readonly hotStandby: boolean;
  /** True: as fast as can be, and worthless after a crash of the machine unless every file is flushed in the end. */
  readonly disposable: boolean;
  readonly sharedPreloadLibraries: string;
}

/** Below PostgreSQL's own limit for the length of a socket's path. */
export const ISOLATED_PORT = 5432;

/**
 * Every setting of a server that nobody else can reach and that reaches nothing. They go onto its command line, where
 * they win over every file. Its main configuration file is an empty one of ours: what came with the copy could name
 * production's directories, libraries, or commands. postgresql.auto.conf is still read, below these.
 */
export function isolatedSettings(request: IsolationRequest): Settings {
  const { control, privateDirectory } = request;
  const segmentMib = control.walSegmentSize / MIB;
  return {
    ...isolatingSettingsFor(control.majorVersion),
    config_file: `${privateDirectory}/postgresql.conf`,
    hba_file: `${privateDirectory}/pg_hba.conf`,
    ident_file: `${privateDirectory}/pg_ident.conf`,
    listen_addresses: '',
    port: String(ISOLATED_PORT),
    unix_socket_directories: privateDirectory,
    unix_socket_group: '',
    unix_socket_permissions: '0700',
    bonjour: 'off',
    ssl: 'off',
    cluster_name: 'aishell-isolated',
    wal_level: 'replica',
    // Without page checksums, only this has the log name all pages that sessions change.
    wal_log_hints: control.walLogHints ? 'on' : 'off',
    hot_standby: request.hotStandby ? 'on' : 'off',
    max_connections: String(control.maxConnections),
    max_worker_processes: String(control.maxWorkerProcesses),
    max_wal_senders: String(control.maxWalSenders),
    max_prepared_transactions: String(control.maxPreparedTransactions),
    max_locks_per_transaction: String(control.maxLocksPerTransaction),
    // Off at the end of a recovery, it would throw away the commit times that the copy holds.
    track_commit_timestamp: control.trackCommitTimestamp ? 'on' : 'off',
    // Off, a recovery ends with a panic where it finds one. Servers of 14 do not all know it.
    ...(control.majorVersion < 15 ? {} : { allow_in_place_tablespaces: 'on' }),
    shared_preload_libraries: request.sharedPreloadLibraries,
    session_preload_libraries: '',
    local_preload_libraries: '',
    shared_buffers: `${sharedBuffersMib()}MB`,
    huge_pages: 'off',
    autovacuum: 'off',
    jit: 'off',
    // The server refuses to start with less than two segments.
    min_wal_size: `${Math.max(80, 2 * segmentMib)}MB`,
    max_wal_size: `${Math.max(MAX_LOG_MIB, 4 * segmentMib)}MB`,
    // A replayed segment may be a hard link to one that is kept elsewhere: it must be removed, never written into again.
    wal_recycle: 'off',
    // A recovery that crashes shall end with its reason in the log, not begin again.
    restart_after_crash: 'off',
    logging_collector: 'off',
    log_destination: 'stderr',
    log_min_messages: 'warning',
    log_line_prefix: '%m [%p] ',
    log_statement: 'none',
    log_timezone: 'UTC',
    TimeZone: 'UTC',
    // The log's words are looked at.
    lc_messages: 'C',
    ...(request.disposable ? disposableSettings : {}),
  };
}

/**
 * Measured with 198 segments, 3.3 GB, over 5 GB of files on two processors shared with others.
 *
 * Without flushing: 3.6-5.8 s against 9.2 s. With the background writer at its hardest and restartpoints without pauses,
 * other processes write what the startup process would otherwise stop to write: 3.5 s of its processor time instead of
 * 6. Each restartpoint also removes the log before it, while that is still cheap: removed all at once in the end, the
 * same segments cost all processes together 5 s more of 24 (they had been written to disk meanwhile for nothing).
 */
const disposableSettings: Settings = {
  fsync: 'off',
  full_page_writes: 'off',
  synchronous_commit: 'off',
  checkpoint_timeout: '1h',
  checkpoint_completion_target: '0',
  bgwriter_delay: '10ms',
  bgwriter_lru_maxpages: '1000',
  bgwriter_lru_multiplier: '4',
};

/**
 * How much of its log an isolated server keeps behind the end of it. While it replays, no more than what it writes itself as it
 * opens: that may go on in the next segment, and the checkpoint there must not remove the first one of the new timeline, which
 * its archiver will not have seen. Once it is open, all of it: who reads rows leaves hints, which are logged.
 * @source xlog.c, KeepLogSeg
 */
export function keptLog(state: 'replaying' | 'open', walSegmentSize: number): Settings {
  return { wal_keep_size: state === 'open' ? '1TB' : `${(4 * walSegmentSize) / MIB}MB` };
}

/** How much replayed log may lie in pg_wal before a restartpoint is wanted; it can only be at a checkpoint of the original. */
const MAX_LOG_MIB = 512;

/** An eighth of the memory, at most 256 MB: more gained nothing in recovery, and production may run beside it. */
function sharedBuffersMib(): number {
  return Math.max(16, Math.min(256, Math.floor(totalmem() / 8 / MIB)));
}

/** Settings of which the log says that they are lower than the primary's, with the values they need. @source xlogrecovery.c, RecoveryRequiresIntParameter */
export function insufficientSettings(log: string): Settings {
  const found: Record<string, string> = {};
  for (const match of log.matchAll(
    /(\w+) = \d+ is a lower setting than on the primary server, where its value was (\d+)/g,
  )) {
    found[match[1]!] = match[2]!;
  }
  return found;
}
