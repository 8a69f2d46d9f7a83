import type pg from 'pg';
import { queryRow, queryRows } from './connection.ts';
import { GUARD_SCHEMA } from './guard-objects.ts';
import { readFileSettings } from './write-controls.ts';

/** What decides which measures are possible. */
export interface GuardServer {
  readonly majorVersion: number;
  readonly version: string;
  readonly inRecovery: boolean;
  /** What a transaction begins as. */
  readonly readOnly: boolean;
  readonly database: string;
  /** As SQL writes it. */
  readonly quotedDatabase: string;
  readonly databaseOid: string;
  readonly ownsDatabase: boolean;
  readonly user: string;
  readonly superuser: boolean;
  readonly mayCreateRoles: boolean;
  readonly mayCreateSchemas: boolean;
  readonly mayGrantReadAll: boolean;
  /** False where `allow_alter_system` is off (PostgreSQL 17 and later). */
  readonly alterSystemAllowed: boolean;
  readonly pgauditAvailable: boolean;
  /** Null: there is no schema of ours. */
  readonly schemaOwner: string | null;
  readonly ownsSchema: boolean;
  /** Its comment. */
  readonly record: string | null;
  readonly eventTriggers: readonly {
    readonly name: string;
    readonly enabled: boolean;
    readonly function: string;
  }[];
  readonly functions: readonly {
    readonly name: string;
    readonly body: string;
    /** It runs with the rights of its owner. */
    readonly definer: boolean;
    readonly settings: readonly string[] | null;
  }[];
}

const serverSql = `
  select current_setting('server_version_num')::int / 10000 as "majorVersion",
         current_setting('server_version') as version, pg_is_in_recovery() as "inRecovery",
         current_setting('default_transaction_read_only')::boolean as "readOnly",
         d.datname::text as database, quote_ident(d.datname) as "quotedDatabase", d.oid::text as "databaseOid",
         pg_has_role(d.datdba, 'usage') as "ownsDatabase", current_user::text as user, r.rolsuper as superuser,
         r.rolsuper or r.rolcreaterole as "mayCreateRoles",
         has_database_privilege(d.oid, 'create') as "mayCreateSchemas",
         r.rolsuper or case when current_setting('server_version_num')::int < 160000 then r.rolcreaterole
                            else pg_has_role('pg_read_all_data', 'usage with admin option') end as "mayGrantReadAll",
         coalesce(current_setting('allow_alter_system', true)::boolean, true) as "alterSystemAllowed",
         exists (select from pg_available_extensions where name = 'pgaudit') as "pgauditAvailable",
         (select nspowner::regrole::text from pg_namespace where nspname = '${GUARD_SCHEMA}') as "schemaOwner",
         coalesce((select pg_has_role(nspowner, 'usage') from pg_namespace where nspname = '${GUARD_SCHEMA}'), false) as "ownsSchema",
         (select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = '${GUARD_SCHEMA}') as record,
         (select coalesce(json_agg(json_build_object('name', e.evtname, 'enabled', e.evtenabled in ('O', 'A'),
                                                     'function', format('%s.%s', n.nspname, p.proname))), '[]')
          from pg_event_trigger e join pg_proc p on p.oid = e.evtfoid join pg_namespace n on n.oid = p.pronamespace
          where e.evtname like 'aishell\\_%') as "eventTriggers",
         (select coalesce(json_agg(json_build_object('name', p.proname, 'body', p.prosrc, 'definer', p.prosecdef, 'settings', p.proconfig)), '[]')
          from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = '${GUARD_SCHEMA}') as functions
  from pg_database d cross join pg_roles r
  where d.datname = current_database() and r.rolname = current_user`;

/** A trigger that has a name of ours. */
export interface TriggerFacts {
  readonly name: string;
  readonly enabled: boolean;
  /** As `schema.name`. */
  readonly function: string;
  /** How many rows it allows; null when it counts none. */
  readonly rows: number | null;
}

/** An ordinary or partitioned table that somebody has made. */
export interface GuardTable {
  readonly schema: string;
  readonly name: string;
  /** As SQL writes it, with its schema. */
  readonly quoted: string;
  /** This user may put triggers on it. */
  readonly owned: boolean;
  /** Some of its rows lie on other servers: statements on it cannot count what they change. */
  readonly hasForeignParts: boolean;
  readonly triggers: readonly TriggerFacts[];
}

// What foreign tables are part of, and what that is part of.
const tablesSql = `
  with recursive above as (
    select i.inhparent as oid from pg_inherits i join pg_class f on f.oid = i.inhrelid where f.relkind = 'f'
    union select i.inhparent from pg_inherits i join above a on i.inhrelid = a.oid)
  select n.nspname::text as schema, c.relname::text as name, format('%I.%I', n.nspname, c.relname) as quoted,
         pg_has_role(c.relowner, 'usage') as owned, c.oid in (select oid from above) as "hasForeignParts",
         (select coalesce(json_agg(json_build_object('name', t.tgname, 'enabled', t.tgenabled in ('O', 'A'),
                   'function', format('%s.%s', pn.nspname, p.proname),
                   'rows', substring(encode(t.tgargs, 'escape') from '^([0-9]{1,15})\\\\000$')::int8)), '[]')
          from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_namespace pn on pn.oid = p.pronamespace
          where t.tgrelid = c.oid and not t.tgisinternal and t.tgname like 'aishell\\_%') as triggers
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p') and c.relpersistence <> 't'
    and n.nspname not in ('pg_catalog', 'information_schema', '${GUARD_SCHEMA}') and n.nspname !~ '^pg_(toast|temp)'
    and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
  order by n.nspname, c.relname`;

/** A role that people or programs log in as. */
export interface LoginRole {
  readonly name: string;
  readonly quoted: string;
  readonly ordinary: boolean;
  /** This user may change its settings. */
  readonly alterable: boolean;
  /** What is set for it in this database. */
  readonly here: Readonly<Record<string, string>>;
  /** What is set for it in all databases. */
  readonly everywhere: Readonly<Record<string, string>>;
}

const settingsOf = (condition: string): string =>
  `(select coalesce(json_object_agg(split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)), '{}')
    from pg_db_role_setting s cross join unnest(s.setconfig) c where ${condition})`;

// From version 16 on, CREATEROLE counts only for roles that one administers.
const rolesSql = `
  select r.rolname::text as name, quote_ident(r.rolname) as quoted,
         not r.rolsuper and not r.rolreplication and r.rolname !~ '^pg_' as ordinary,
         me.rolsuper or me.rolcreaterole and (current_setting('server_version_num')::int < 160000
           or pg_has_role(r.oid, 'usage with admin option')) as alterable,
         ${settingsOf('s.setrole = r.oid and s.setdatabase = d.oid')} as here,
         ${settingsOf('s.setrole = r.oid and s.setdatabase = 0')} as everywhere
  from pg_roles r cross join pg_roles me cross join pg_database d
  where r.rolcanlogin and me.rolname = current_user and d.datname = current_database()
  order by r.rolname`;

/** A role by name. */
export interface GroupRole {
  readonly exists: boolean;
  /** It is a member of pg_read_all_data. */
  readonly readsAll: boolean;
  readonly members: readonly string[];
  /** It owns something, or was granted something, in some database: then it cannot be dropped. */
  readonly hasRights: boolean;
}

const groupSql = `
  select exists (select from pg_roles where rolname = $1) as exists,
         exists (select from pg_auth_members m join pg_roles r on r.oid = m.member
                 where r.rolname = $1 and m.roleid = 'pg_read_all_data'::regrole) as "readsAll",
         -- Whoever makes a role is its administrator from version 16 on, by a membership that the server has granted.
         (select coalesce(json_agg(distinct u.rolname order by u.rolname), '[]')
          from pg_auth_members m join pg_roles r on r.oid = m.roleid join pg_roles u on u.oid = m.member
          where r.rolname = $1 and not (m.grantor = 10 and m.admin_option)) as members,
         exists (select from pg_shdepend s join pg_roles r on r.oid = s.refobjid
                 where s.refclassid = 'pg_authid'::regclass and r.rolname = $1 and s.deptype in ('o', 'a', 'r')) as "hasRights"`;

export interface LogSettings {
  /** Of the database itself. */
  readonly database: Readonly<Record<string, string>>;
  readonly statement: { readonly value: string; readonly source: string };
  readonly prefix: { readonly value: string; readonly source: string };
  /** `log_line_prefix` in postgresql.auto.conf; null when it is not there, or this user may not look. */
  readonly autoPrefix: string | null;
}

const logSql = `
  select ${settingsOf('s.setrole = 0 and s.setdatabase = (select oid from pg_database where datname = current_database())')} as database,
         json_build_object('value', st.setting, 'source', st.source) as statement,
         json_build_object('value', pr.setting, 'source', pr.source) as prefix
  from pg_settings st cross join pg_settings pr where st.name = 'log_statement' and pr.name = 'log_line_prefix'`;

/** A measure that was applied, as the database itself remembers it. */
export interface RecordedMeasure {
  readonly name: string;
  readonly options: Readonly<Record<string, unknown>>;
  /** ISO 8601 in UTC. */
  readonly since: string;
  readonly by: string;
}

/** A change to something outside of the tables, with what was there before: null for nothing. */
export interface RecordedChange {
  readonly measure: string;
  readonly kind: 'role-setting' | 'setting' | 'role';
  /** Null: of the database, or of the server. */
  readonly role: string | null;
  readonly name: string;
  readonly before: string | null;
  readonly since: string;
}

/** Everything about a database that measures read, and may change. */
export interface GuardFacts {
  readonly server: GuardServer;
  readonly tables: readonly GuardTable[];
  readonly roles: readonly LoginRole[];
  readonly group: GroupRole;
  readonly log: LogSettings;
  readonly measures: readonly RecordedMeasure[];
  /** Of this very database: a copy of it has the record of its origin, and nothing of what that says was done to it. */
  readonly changes: readonly RecordedChange[];
}

/**
 * Reads all of it, in one transaction that sees one moment.
 *
 * @param group the role whose members are asked for
 * @throws DATABASE_FAILED DATABASE_DENIED DATABASE_UNREACHABLE
 */
export async function readGuardFacts(client: pg.Client, group: string): Promise<GuardFacts> {
  const doing = 'read what protects the database';
  await queryRows(client, doing, { text: 'begin isolation level repeatable read read only' });
  try {
    const server = await queryRow<GuardServer>(client, doing, { text: serverSql });
    return {
      server,
      tables: await queryRows<GuardTable>(client, doing, { text: tablesSql }),
      roles: await queryRows<LoginRole>(client, doing, { text: rolesSql }),
      group: await queryRow<GroupRole>(client, doing, { text: groupSql, values: [group] }),
      log: {
        ...(await queryRow<Omit<LogSettings, 'autoPrefix'>>(client, doing, { text: logSql })),
        autoPrefix: server.superuser
          ? ((await readFileSettings(client)).auto.get('log_line_prefix') ?? null)
          : null,
      },
      ...parseRecord(server),
    };
  } finally {
    await client.query('rollback').catch(() => undefined);
  }
}

interface RecordEntry extends Omit<RecordedMeasure, 'name'> {
  readonly database: string | number;
  readonly changes: readonly Omit<RecordedChange, 'measure'>[];
}

/** A comment that is somebody's own says nothing of what was done. */
function parseRecord({
  record,
  databaseOid,
}: Pick<GuardServer, 'record' | 'databaseOid'>): Pick<GuardFacts, 'measures' | 'changes'> {
  const entries = Object.entries(readObject(record)).filter((entry): entry is [string, RecordEntry] =>
    Array.isArray((entry[1] as Partial<RecordEntry> | null)?.changes),
  );
  return {
    measures: entries.map(([name, { options, since, by }]) => ({ name, options, since, by })),
    changes: entries.flatMap(([measure, { database, changes }]) =>
      String(database) === databaseOid ? changes.map(change => ({ ...change, measure })) : [],
    ),
  };
}

function readObject(text: string | null): object {
  try {
    const value: unknown = JSON.parse(text ?? '{}');
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}

/** Databases of this server that hold tables cannot be told from here; these are the ones to look into. */
export async function readOtherDatabases(client: pg.Client): Promise<string[]> {
  const rows = await queryRows<{ name: string }>(client, 'list the databases', {
    text: `select datname::text as name from pg_database
           where datallowconn and not datistemplate and datname <> current_database() order by datname`,
  });
  return rows.map(({ name }) => name);
}
