import type pg from 'pg';
import { queryRow, queryRows } from './connection.ts';
import { quoteIdentifier } from './connection-errors.ts';

/** Where `default_transaction_read_only` is set for a role or database, to off. Null: for all of them. */
export interface SettingOverride {
  readonly role: string | null;
  readonly database: string | null;
  readonly value: string;
}

/** What has to be known of a server before its writes are stopped. */
export interface WriteFacts {
  readonly majorVersion: number;
  readonly version: string;
  readonly systemIdentifier: string;
  readonly inRecovery: boolean;
  /** The database of this session. */
  readonly database: string;
  readonly user: string;
  readonly superuser: boolean;
  /** Null when this user may not ask. */
  readonly dataDirectory: string | null;
  readonly walLevel: string;
  /** False where `allow_alter_system` is off (PostgreSQL 17 and later). */
  readonly alterSystemAllowed: boolean;
  /** An option of the server's command line, which no file overrules. */
  readonly readOnlyOnCommandLine: boolean;
  readonly overrides: readonly SettingOverride[];
  /** Those that are enabled. */
  readonly subscriptions: readonly { readonly database: string; readonly name: string }[];
  /** Statements that give this user what stopping writes at level soft needs; empty when nothing is missing. */
  readonly missingGrants: readonly string[];
}

interface FactsRow extends Omit<WriteFacts, 'missingGrants'> {
  readonly maySignal: boolean;
  readonly maySeeSessions: boolean;
  readonly mayReload: boolean;
  readonly maySeeFiles: boolean;
}

/** In one statement: every other costs time that the damage goes on in. */
const factsSql = `
  select current_setting('server_version_num')::int / 10000 as "majorVersion",
         current_setting('server_version') as version,
         (select system_identifier::text from pg_control_system()) as "systemIdentifier",
         pg_is_in_recovery() as "inRecovery", current_database()::text as database, current_user::text as user,
         r.rolsuper as superuser,
         case when r.rolsuper or pg_has_role('pg_read_all_settings', 'usage')
              then current_setting('data_directory') end as "dataDirectory",
         current_setting('wal_level') as "walLevel",
         coalesce(current_setting('allow_alter_system', true)::boolean, true) as "alterSystemAllowed",
         exists (select from pg_settings where name = 'default_transaction_read_only'
                  and source = 'command line') as "readOnlyOnCommandLine",
         pg_has_role('pg_signal_backend', 'usage') as "maySignal",
         pg_has_role('pg_read_all_stats', 'usage') as "maySeeSessions",
         has_function_privilege('pg_reload_conf()', 'execute') as "mayReload",
         has_function_privilege('pg_show_all_file_settings()', 'execute')
           and has_table_privilege('pg_file_settings', 'select') as "maySeeFiles",
         (select coalesce(json_agg(json_build_object('role', o.rolname, 'database', d.datname, 'value', split_part(c, '=', 2))), '[]')
          from pg_db_role_setting s cross join unnest(setconfig) c
          left join pg_roles o on o.oid = s.setrole left join pg_database d on d.oid = s.setdatabase
          where c like 'default\\_transaction\\_read\\_only=%' and not split_part(c, '=', 2)::boolean) as overrides,
         (select coalesce(json_agg(json_build_object('database', d.datname, 'name', s.subname) order by d.datname, s.subname), '[]')
          from pg_subscription s join pg_database d on d.oid = s.subdbid where s.subenabled) as subscriptions
  from pg_roles r where r.rolname = current_user`;

/** @throws DATABASE_FAILED DATABASE_UNREACHABLE */
export async function readWriteFacts(client: pg.Client): Promise<WriteFacts> {
  const { maySignal, maySeeSessions, mayReload, maySeeFiles, ...facts } = await queryRow<FactsRow>(
    client,
    'read the facts of the server',
    { text: factsSql },
  );
  if (facts.superuser) return { ...facts, missingGrants: [] };
  const user = quoteIdentifier(facts.user);
  // Before version 15 ALTER SYSTEM cannot be granted at all.
  if (facts.majorVersion < 15) return { ...facts, missingGrants: [`ALTER ROLE ${user} SUPERUSER;`] };
  const { may: mayAlter } = await queryRow<{ may: boolean }>(client, 'read the rights of this user', {
    text: `select has_parameter_privilege('default_transaction_read_only', 'alter system') as may`,
  });
  const missingGrants = [
    ...(mayAlter ? [] : [`GRANT ALTER SYSTEM ON PARAMETER default_transaction_read_only TO ${user};`]),
    ...(mayReload ? [] : [`GRANT EXECUTE ON FUNCTION pg_reload_conf() TO ${user};`]),
    ...(maySeeFiles
      ? []
      : [
          `GRANT SELECT ON pg_file_settings TO ${user}; GRANT EXECUTE ON FUNCTION pg_show_all_file_settings() TO ${user};`,
        ]),
    ...(maySignal && maySeeSessions ? [] : [`GRANT pg_signal_backend, pg_read_all_stats TO ${user};`]),
  ];
  return { ...facts, missingGrants };
}

export interface DatabaseEntry {
  readonly oid: number;
  readonly name: string;
  readonly allowConnections: boolean;
  readonly connectionLimit: number;
}

/** All databases but those that an interrupted DROP DATABASE left behind, which cannot be altered. */
export async function readDatabaseEntries(client: pg.Client): Promise<DatabaseEntry[]> {
  return await queryRows<DatabaseEntry>(client, 'list the databases', {
    text: `select oid::int8::float8 as oid, datname::text as name, datallowconn as "allowConnections",
                  datconnlimit as "connectionLimit" from pg_database where datconnlimit <> -2 order by datname`,
  });
}

/** Whether the database of this session holds a table of somebody's. */
export async function hasUserTables(client: pg.Client): Promise<boolean> {
  const { found } = await queryRow<{ found: boolean }>(client, 'see whether the database is in use', {
    text: `select exists (select from pg_class where oid >= 16384 and relkind in ('r', 'p', 'm', 'f')) as found`,
  });
  return found;
}

/** What a setting will be after a restart. */
export interface NextSetting {
  readonly name: string;
  /** As the files have it, or the default; null when the default is a matter of the build. */
  readonly next: string | null;
  /** Set on the server's command line: files do not count. */
  readonly fixed: boolean;
}

/** What these settings will be once the server has been restarted; those its version does not have are left out. Only for a superuser. */
export async function readNextSettings(client: pg.Client, names: readonly string[]): Promise<NextSetting[]> {
  return await queryRows<NextSetting>(client, 'read the settings of the next start', {
    text: `select s.name, s.source = 'command line' as fixed,
                  case when s.source = 'command line' then s.setting
                       else coalesce((select f.setting from pg_file_settings f where lower(f.name) = s.name
                                      order by f.seqno desc limit 1), s.boot_val) end as next
           from pg_settings s where s.name = any($1)`,
    values: [names],
  });
}
