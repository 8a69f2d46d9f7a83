import type pg from 'pg';
import { AppError, messageOf } from '../../base/errors.ts';
import { connect, queryRow, queryRows } from './connection.ts';
import type { ConnectionSettings } from './connection-target.ts';
import { isoTime, readMajorVersion } from './server-facts.ts';

export interface BaseBackupOptions {
  /** Written into backup_label; line ends are replaced. */
  readonly label: string;
  /** True: the server checkpoints at once, at the price of a burst of writes; false: at its own pace, which takes minutes. */
  readonly fastCheckpoint: boolean;
  readonly signal?: AbortSignal;
}

/** What a finished base backup needs besides the files. */
export interface BaseBackupEnd {
  /** The log up to here makes the copy consistent. */
  readonly stopLsn: string;
  /** The last segment that is needed. The server has completed it and hands it to archive_command. */
  readonly stopSegment: string;
  /** On the server's clock, after `stopLsn`: recovery to this time or later is possible. */
  readonly stopTime: string;
  /** Must be in the copy as `backup_label`; without it recovery would start at the wrong place, silently. */
  readonly labelFile: string;
  /** Must be in the copy as `tablespace_map`; null when there are no tablespaces. */
  readonly tablespaceMap: string | null;
}

/** A server in backup mode. It stays so while this session lives; a lost session ends it, and nothing is left behind. */
export interface BaseBackup extends AsyncDisposable {
  readonly majorVersion: number;
  /** Recovery starts here. */
  readonly startLsn: string;
  readonly startSegment: string;
  readonly timeline: number;
  /** On the server's clock, ISO 8601 with microseconds. */
  readonly startTime: string;
  /** Null when the server keeps all log from the start on until the end, archived or not; otherwise why it does not. */
  readonly logNotHeld: string | null;
  /** Aborts when the session is lost: what was copied is then worthless. Its reason is the error to throw. */
  readonly lost: AbortSignal;
  /** Ends backup mode. The session, and with it the slot that holds the log, stays until `abort` or disposal. */
  stop(): Promise<BaseBackupEnd>;
  /** Ends the session, and with it backup mode. Never fails; fine after `stop`. */
  abort(): Promise<void>;
}

/**
 * Puts the server into backup mode: from now on its files may be copied while it works.
 *
 * @throws UNSUPPORTED the server is a standby, or its wal_level is minimal
 * @throws ENGINE_VERSION DATABASE_UNREACHABLE DATABASE_DENIED DATABASE_FAILED; the signal's reason when cancelled
 * @source PostgreSQL manual, "Making a Base Backup Using the Low Level API"
 */
export async function startBaseBackup(
  settings: ConnectionSettings,
  options: BaseBackupOptions,
): Promise<BaseBackup> {
  const { signal } = options;
  const client = await connect(settings, {
    applicationName: 'aishell base backup',
    ...(signal === undefined ? {} : { signal }),
  });
  try {
    const lost = watchSession(client);
    const majorVersion = await readMajorVersion(client, signal);
    await refuseUnsuitable(client, signal);
    const logNotHeld = await holdLog(client, signal);
    const start = await enterBackupMode(client, majorVersion, options);
    return runningBackup(client, { ...start, majorVersion, logNotHeld, lost });
  } catch (error) {
    await client.end().catch(() => undefined);
    throw error;
  }
}

type Running = Omit<BaseBackup, 'stop' | 'abort' | typeof Symbol.asyncDispose>;

function runningBackup(client: pg.Client, running: Running): BaseBackup {
  // Ending the session takes the server out of backup mode and drops the temporary slot.
  const abort = async (): Promise<void> => await client.end().catch(() => undefined);
  return {
    ...running,
    stop: async () => {
      running.lost.throwIfAborted();
      return await leaveBackupMode(client, running.majorVersion);
    },
    abort,
    [Symbol.asyncDispose]: abort,
  };
}

function watchSession(client: pg.Client): AbortSignal {
  const controller = new AbortController();
  client.once('error', error => {
    controller.abort(
      new AppError(
        'DATABASE_UNREACHABLE',
        `unable to finish the backup: the session was lost: ${messageOf(error)}`,
        {
          hint: 'Was the server stopped or restarted? Start the backup again once it runs.',
          cause: error,
        },
      ),
    );
  });
  return controller.signal;
}

async function refuseUnsuitable(client: pg.Client, signal: AbortSignal | undefined): Promise<void> {
  const row = await queryRow<{ standby: boolean; level: string }>(client, 'look at the state of the server', {
    text: `select pg_is_in_recovery() as standby, current_setting('wal_level') as level`,
    ...(signal === undefined ? {} : { signal }),
  });
  if (row.standby) {
    throw new AppError(
      'UNSUPPORTED',
      'unable to back up this server: it is a standby, or still in recovery',
      {
        hint: 'Back up its primary; backups from a standby are not supported yet.',
      },
    );
  }
  if (row.level === 'minimal') {
    throw new AppError('UNSUPPORTED', 'unable to back up this server while it runs: wal_level is minimal', {
      hint: "ALTER SYSTEM SET wal_level = 'replica'; then restart the server.",
    });
  }
}

/**
 * A temporary slot that keeps the log from here on, so that a long backup finds it even where nothing is archived. It
 * goes with the session. Not every server has a slot to spare or gives us the right, and the backup works without:
 * then the log must come from the archive.
 */
async function holdLog(client: pg.Client, signal: AbortSignal | undefined): Promise<string | null> {
  try {
    await queryRows(client, 'hold the log with a replication slot', {
      text: `select pg_create_physical_replication_slot('aishell_backup_' || pg_backend_pid(), true, true)`,
      ...(signal === undefined ? {} : { signal }),
    });
    return null;
  } catch (error) {
    if (error instanceof AppError && (error.code === 'DATABASE_FAILED' || error.code === 'DATABASE_DENIED')) {
      return error.message;
    }
    throw error;
  }
}

interface BackupStart {
  readonly startLsn: string;
  readonly startSegment: string;
  readonly timeline: number;
  readonly startTime: string;
}

async function enterBackupMode(
  client: pg.Client,
  majorVersion: number,
  options: BaseBackupOptions,
): Promise<BackupStart> {
  const ask = options.signal === undefined ? {} : { signal: options.signal };
  const label = options.label.replace(/[\r\n\0]+/g, ' ').slice(0, 200);
  const call =
    majorVersion >= 15
      ? 'pg_backup_start($1, fast => $2)'
      : 'pg_start_backup($1, fast => $2, exclusive => false)';
  const { time } = await queryRow<{ time: string }>(client, "read the server's clock", {
    text: `select ${isoTime('clock_timestamp()')} as time`,
    ...ask,
  });
  const { lsn } = await queryRow<{ lsn: string }>(client, 'start a base backup', {
    text: `select ${call}::text as lsn`,
    values: [label, options.fastCheckpoint],
    ...ask,
  });
  // A checkpoint's redo position is that of a record, never the end of a segment, so this is the segment it lies in.
  const { segment } = await queryRow<{ segment: string }>(client, 'name the first segment of the backup', {
    text: 'select pg_walfile_name($1::pg_lsn) as segment',
    values: [lsn],
    ...ask,
  });
  return {
    startLsn: lsn,
    startSegment: segment,
    timeline: Number.parseInt(segment.slice(0, 8), 16),
    startTime: time,
  };
}

async function leaveBackupMode(client: pg.Client, majorVersion: number): Promise<BaseBackupEnd> {
  // Stopping also switches to a new segment, so that the one with the end is complete and archived at once. Waiting for
  // that is the caller's part: the server would wait without end where archive_command fails.
  const call =
    majorVersion >= 15 ? 'pg_backup_stop(wait_for_archive => false)' : 'pg_stop_backup(false, false)';
  const end = await queryRow<{ lsn: string; label: string; map: string }>(client, 'stop the base backup', {
    text: `select lsn::text, labelfile as label, spcmapfile as map from ${call}`,
  });
  // The position is the first byte that is not needed. It may be the start of a segment, for which pg_walfile_name
  // gives the segment before up to version 16 and the segment itself from 17 on; the byte before is in no doubt.
  const after = await queryRow<{ segment: string; time: string }>(
    client,
    'name the last segment of the backup',
    {
      text: `select pg_walfile_name($1::pg_lsn - 1) as segment, ${isoTime('clock_timestamp()')} as time`,
      values: [end.lsn],
    },
  );
  return {
    stopLsn: end.lsn,
    stopSegment: after.segment,
    stopTime: after.time,
    labelFile: end.label,
    tablespaceMap: end.map.trim() === '' ? null : end.map,
  };
}

export interface WalPosition {
  readonly lsn: string;
  readonly timeline: number;
}

/** The end of the log: what is written on a primary, what is replayed on a standby. */
export async function currentWalPosition(client: pg.Client, signal?: AbortSignal): Promise<WalPosition> {
  return await queryRow<WalPosition>(client, "read the server's log position", {
    text: `select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end)::text as lsn,
                  case when pg_is_in_recovery() then (select timeline_id from pg_control_checkpoint())
                       else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end as timeline`,
    ...(signal === undefined ? {} : { signal }),
  });
}

export interface WalSwitch {
  /** The end of the completed segment's content. */
  readonly lsn: string;
  /** The segment that is complete now: archive_command gets it next, or has had it already. */
  readonly segment: string;
}

/**
 * Completes the current segment, so that everything committed so far is archived. When nothing was written since the
 * last switch, nothing is switched, and the segment is the one before.
 *
 * @throws DATABASE_DENIED DATABASE_FAILED (on a standby) DATABASE_UNREACHABLE
 */
export async function switchWal(client: pg.Client, signal?: AbortSignal): Promise<WalSwitch> {
  const ask = signal === undefined ? {} : { signal };
  const { lsn } = await queryRow<{ lsn: string }>(client, 'switch to a new log segment', {
    text: 'select pg_switch_wal()::text as lsn',
    ...ask,
  });
  const { segment } = await queryRow<{ segment: string }>(client, 'name the switched log segment', {
    text: 'select pg_walfile_name($1::pg_lsn - 1) as segment',
    values: [lsn],
    ...ask,
  });
  return { lsn, segment };
}
