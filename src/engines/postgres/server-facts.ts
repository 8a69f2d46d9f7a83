import type pg from 'pg';
import { AppError } from '../../base/errors.ts';
import { queryRow, queryRows } from './connection.ts';
import { parseSettings, type ServerSettings, settingsSql } from './server-facts-settings.ts';

export interface TablespaceFacts {
  readonly oid: number;
  readonly name: string;
  /** Where it lies on the server; empty for pg_default and pg_global, which are part of the data directory. */
  readonly path: string;
  /** Null when this user may not ask. */
  readonly sizeBytes: number | null;
}

export interface DatabaseFacts {
  readonly oid: number;
  readonly name: string;
  /** Null when this user may not ask. */
  readonly sizeBytes: number | null;
  /** False also for one that a failed DROP DATABASE left behind. */
  readonly allowConnections: boolean;
}

/** What pg_stat_archiver says of archive_command. Times are ISO 8601 in UTC. */
export interface ArchiverFacts {
  readonly archivedCount: number;
  readonly lastArchivedSegment: string | null;
  readonly lastArchivedTime: string | null;
  readonly failedCount: number;
  readonly lastFailedSegment: string | null;
  readonly lastFailedTime: string | null;
}

export interface ServerFacts extends ServerSettings {
  /** As `180004`. */
  readonly versionNumber: number;
  /** As `18`. */
  readonly majorVersion: number;
  /** As `18.4 (Debian 18.4-1)`. */
  readonly version: string;
  /** A decimal number of up to 20 digits. */
  readonly systemIdentifier: string;
  readonly timeline: number;
  readonly inRecovery: boolean;
  /** The directory of this server's files within each tablespace, as `PG_18_202506291`. */
  readonly tablespaceVersionDirectory: string;
  /** All but pg_default and pg_global. */
  readonly tablespaces: readonly TablespaceFacts[];
  readonly databases: readonly DatabaseFacts[];
  /** Sessions of clients beside this one. */
  readonly clientConnections: number;
  readonly startTime: string;
  /** Null when this user may not ask. */
  readonly postmasterPid: number | null;
  readonly user: string;
  readonly userIsSuperuser: boolean;
  readonly userMayReplicate: boolean;
  /** May this user start and stop a base backup? */
  readonly userMayBackUp: boolean;
  /** The superuser that initdb made: it always exists, also in a restored copy. */
  readonly bootstrapSuperuser: string;
  readonly archiver: ArchiverFacts;
  /** Who receives its log by streaming: names of standbys, and `aishell_…` for our agent. */
  readonly logReceivers: readonly string[];
  /** Every configuration file that the server reads settings from, main, automatic and included ones. */
  readonly configurationFiles: readonly string[];
}

interface BasicsRow {
  version_number: number;
  version: string;
  system_identifier: string;
  catalog_version: number;
  in_recovery: boolean;
  timeline: number;
  start_time: string;
  client_connections: number;
  user: string;
  superuser: boolean;
  replication: boolean;
  may_back_up: boolean;
  bootstrap_superuser: string;
}

export const OLDEST_MAJOR = 14;
export const NEWEST_MAJOR = 18;

/**
 * Asks a server what has to be known to back it up, restore it, and judge how it is set up.
 *
 * @throws ENGINE_VERSION DATABASE_DENIED (pg_monitor is missing) DATABASE_UNREACHABLE DATABASE_FAILED
 */
export async function readServerFacts(client: pg.Client, signal?: AbortSignal): Promise<ServerFacts> {
  const ask = signal === undefined ? {} : { signal };
  const majorVersion = await readMajorVersion(client, signal);
  const basics = await queryRow<BasicsRow>(client, 'read the facts of the server', {
    text: basicsSql,
    values: backupFunctions(majorVersion),
    ...ask,
  });
  const settingRows = await queryRows<{ name: string; setting: string; unit: string | null }>(
    client,
    'read the settings of the server',
    { text: settingsSql, ...ask },
  );
  const databases = await readDatabases(client, signal);
  const tablespaces = await readTablespaces(client, signal);
  const archiver = await readArchiverFacts(client, signal);
  return {
    ...parseSettings(settingRows, basics.user),
    versionNumber: basics.version_number,
    majorVersion,
    version: basics.version,
    systemIdentifier: basics.system_identifier,
    timeline: basics.timeline,
    inRecovery: basics.in_recovery,
    tablespaceVersionDirectory: `PG_${majorVersion}_${basics.catalog_version}`,
    tablespaces,
    databases,
    clientConnections: basics.client_connections,
    startTime: basics.start_time,
    postmasterPid: await readPostmasterPid(client, signal),
    user: basics.user,
    userIsSuperuser: basics.superuser,
    userMayReplicate: basics.replication,
    userMayBackUp: basics.may_back_up,
    bootstrapSuperuser: basics.bootstrap_superuser,
    archiver,
    logReceivers: await readLogReceivers(client, signal),
    configurationFiles: await readConfigurationFiles(client, basics.superuser, signal),
  };
}

/** The server's major version. @throws ENGINE_VERSION it is none of 14 to 18 */
export async function readMajorVersion(client: pg.Client, signal?: AbortSignal): Promise<number> {
  const row = await queryRow<{ number: number; version: string }>(client, "read the server's version", {
    text: `select current_setting('server_version_num')::int as number, current_setting('server_version') as version`,
    ...(signal === undefined ? {} : { signal }),
  });
  const major = Math.floor(row.number / 10_000);
  if (major >= OLDEST_MAJOR && major <= NEWEST_MAJOR) return major;
  throw new AppError(
    'ENGINE_VERSION',
    `unable to work with PostgreSQL ${row.version}: supported are ${OLDEST_MAJOR} to ${NEWEST_MAJOR}`,
    {
      hint:
        major < OLDEST_MAJOR
          ? 'Upgrade the server; its version gets no more fixes.'
          : 'Install a newer aishell.',
    },
  );
}

/** The functions of a base backup were renamed in version 15. */
function backupFunctions(majorVersion: number): [string, string] {
  return majorVersion >= 15
    ? ['pg_catalog.pg_backup_start(text,boolean)', 'pg_catalog.pg_backup_stop(boolean)']
    : ['pg_catalog.pg_start_backup(text,boolean,boolean)', 'pg_catalog.pg_stop_backup(boolean,boolean)'];
}

/** A time as ISO 8601 in UTC with microseconds, which is how exact PostgreSQL's commit times are. */
export const isoTime = (expression: string): string =>
  `to_char((${expression}) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

// While running, a server's timeline is in the name of its current segment; pg_control has that of its last checkpoint,
// which is what there is on a standby.
const basicsSql = `
  select current_setting('server_version_num')::int as version_number,
         current_setting('server_version') as version,
         (select system_identifier::text from pg_control_system()) as system_identifier,
         (select catalog_version_no from pg_control_system()) as catalog_version,
         pg_is_in_recovery() as in_recovery,
         case when pg_is_in_recovery() then (select timeline_id from pg_control_checkpoint())
              else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int end as timeline,
         ${isoTime('pg_postmaster_start_time()')} as start_time,
         (select count(*)::int from pg_stat_activity
           where backend_type = 'client backend' and pid <> pg_backend_pid()) as client_connections,
         current_user as user, r.rolsuper as superuser, r.rolsuper or r.rolreplication as replication,
         has_function_privilege($1::regprocedure, 'execute')
           and has_function_privilege($2::regprocedure, 'execute') as may_back_up,
         (select rolname from pg_roles where oid = 10) as bootstrap_superuser
  from pg_roles r where r.rolname = current_user`;

async function readDatabases(client: pg.Client, signal: AbortSignal | undefined): Promise<DatabaseFacts[]> {
  // datconnlimit -2 marks what an interrupted DROP DATABASE left: nobody can connect to it, and its files may be gone.
  const rows = await queryRows<{ oid: string; name: string; size: string | null; allowed: boolean }>(
    client,
    'list the databases',
    {
      text: `select oid::text, datname as name, datallowconn and datconnlimit <> -2 as allowed,
                    case when datconnlimit <> -2 and (has_database_privilege(oid, 'connect')
                              or pg_has_role('pg_read_all_stats', 'usage'))
                         then pg_database_size(oid) end as size
             from pg_database order by datname`,
      ...(signal === undefined ? {} : { signal }),
    },
  );
  return rows.map(row => ({
    oid: Number(row.oid),
    name: row.name,
    sizeBytes: row.size === null ? null : Number(row.size),
    allowConnections: row.allowed,
  }));
}

async function readTablespaces(
  client: pg.Client,
  signal: AbortSignal | undefined,
): Promise<TablespaceFacts[]> {
  const rows = await queryRows<{ oid: string; name: string; path: string; size: string | null }>(
    client,
    'list the tablespaces',
    {
      text: `select oid::text, spcname as name, pg_tablespace_location(oid) as path,
                    case when has_tablespace_privilege(oid, 'create') or pg_has_role('pg_read_all_stats', 'usage')
                         then pg_tablespace_size(oid) end as size
             from pg_tablespace where spcname not in ('pg_default', 'pg_global') order by oid`,
      ...(signal === undefined ? {} : { signal }),
    },
  );
  return rows.map(row => ({
    oid: Number(row.oid),
    name: row.name,
    path: row.path,
    sizeBytes: row.size === null ? null : Number(row.size),
  }));
}

/** How archiving goes, asked again and again while waiting for a segment. */
export async function readArchiverFacts(client: pg.Client, signal?: AbortSignal): Promise<ArchiverFacts> {
  return await queryRow<ArchiverFacts>(client, 'read how archiving goes', {
    text: `select archived_count::float8 as "archivedCount", last_archived_wal as "lastArchivedSegment",
                  ${isoTime('last_archived_time')} as "lastArchivedTime", failed_count::float8 as "failedCount",
                  last_failed_wal as "lastFailedSegment", ${isoTime('last_failed_time')} as "lastFailedTime"
           from pg_stat_archiver`,
    ...(signal === undefined ? {} : { signal }),
  });
}

async function readLogReceivers(client: pg.Client, signal: AbortSignal | undefined): Promise<string[]> {
  const rows = await queryRows<{ name: string }>(client, 'list who receives the log', {
    text: 'select distinct application_name as name from pg_stat_replication order by 1',
    ...(signal === undefined ? {} : { signal }),
  });
  return rows.map(row => row.name);
}

/** Only a superuser sees files whose every setting is overruled by another file. */
async function readConfigurationFiles(
  client: pg.Client,
  superuser: boolean,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const rows = await queryRows<{ path: string }>(client, "list the server's configuration files", {
    text: `select distinct sourcefile as path from ${superuser ? 'pg_file_settings' : 'pg_settings'}
           where sourcefile is not null order by 1`,
    ...(signal === undefined ? {} : { signal }),
  });
  return rows.map(row => row.path);
}

async function readPostmasterPid(client: pg.Client, signal: AbortSignal | undefined): Promise<number | null> {
  const may = await queryRow<{ may: boolean }>(client, 'read the rights of this user', {
    text: `select has_function_privilege('pg_read_file(text)', 'execute') as may`,
    ...(signal === undefined ? {} : { signal }),
  });
  if (!may.may) return null;
  const row = await queryRow<{ pid: string }>(client, "read the server's process id", {
    text: `select split_part(pg_read_file('postmaster.pid'), e'\\n', 1) as pid`,
    ...(signal === undefined ? {} : { signal }),
  });
  return Number(row.pid) || null;
}
