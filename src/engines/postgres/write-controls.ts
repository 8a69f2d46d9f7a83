import type pg from 'pg';
import { queryRow, queryRows } from './connection.ts';
import { quoteIdentifier } from './connection-errors.ts';
import { isoTime } from './server-facts.ts';

/**
 * Something that is changed to stop writes. `before` is what puts it back, so that a record of these, written first, is
 * enough to undo them from anywhere and at any time.
 */
export type ServerChange = SettingChange | RoleSettingChange | DatabaseChange | SubscriptionChange;

/** An entry of postgresql.auto.conf; null: it has none. */
export interface SettingChange {
  readonly kind: 'setting';
  readonly name: string;
  readonly before: string | null;
  readonly during: string;
}

/** A setting of a role, in a database where one is named; without a role, of every role. Null: not set there. */
export interface RoleSettingChange {
  readonly kind: 'role-setting';
  readonly role: string | null;
  readonly database: string | null;
  readonly name: string;
  readonly before: string | null;
  readonly during: string;
}

export interface DatabaseChange {
  readonly kind: 'database';
  readonly oid: number;
  /** When it was recorded; `oid` counts. */
  readonly name: string;
  readonly before: DatabaseAccess;
  readonly during: DatabaseAccess;
}

export interface DatabaseAccess {
  readonly allowConnections: boolean;
  /** -1: no limit. Superusers are not counted. */
  readonly connectionLimit: number;
}

/** Its apply worker writes what it receives, whatever a session may do. */
export interface SubscriptionChange {
  readonly kind: 'subscription';
  /** A subscription can only be altered from inside its database. */
  readonly database: string;
  readonly name: string;
  readonly before: 'enabled';
  readonly during: 'disabled';
}

/** What would have to be true before a change is put back: it still has the value that was given to it. */
export type ChangeState = 'before' | 'during' | 'other' | 'gone';

/** Text as SQL takes it whatever is in it. @source PostgreSQL manual, "String Constants with C-Style Escapes" */
export function quoteLiteral(text: string): string {
  return text.includes('\\')
    ? ` E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
    : `'${text.replaceAll("'", "''")}'`;
}

/** Lets a session write although the server's default is read-only, and makes what it changes durable at its commit. */
export async function prepareControlSession(client: pg.Client): Promise<void> {
  await queryRows(client, 'set up the session', {
    text: `select set_config('default_transaction_read_only', 'off', false), set_config('lock_timeout', '5s', false),
                  set_config('synchronous_commit', 'local', false)`,
  });
}

/** What the server's configuration files say now, whether it was taken up or not. */
export interface FileSettings {
  /** The entries of postgresql.auto.conf, by name in small letters. */
  readonly auto: ReadonlyMap<string, string>;
  /** `file:line: name: why`: with one of these the server takes up none of its configuration. */
  readonly errors: readonly string[];
  /** Changed in a file, but not in the server until it is restarted. */
  readonly pending: readonly string[];
}

/** Reads the configuration files through the server. A superuser may, or whoever was granted it. */
export async function readFileSettings(client: pg.Client): Promise<FileSettings> {
  const rows = await queryRows<{
    name: string;
    setting: string;
    auto: boolean;
    restart: boolean;
    error: string | null;
  }>(client, "read the server's configuration files", {
    // A setting that counts only after a restart has an error too, in words that depend on the language; one that was
    // taken out of the files is named in those words alone.
    text: `select coalesce(lower(f.name), substring(f.error from '[a-z]+(?:_[a-z]+)+'), '') as name, coalesce(f.setting, '') as setting,
                  coalesce(f.sourcefile ~ '(^|/)postgresql\\.auto\\.conf$', false) as auto,
                  coalesce(s.context = 'postmaster', f.sourcefile is null) as restart,
                  case when f.error is not null
                       then concat(f.sourcefile, ':', f.sourceline, ': ', f.name, ': ', f.error) end as error
           from pg_file_settings f left join pg_settings s on f.error is not null and s.name = lower(f.name)
           order by f.seqno`,
  });
  const wrong = rows.filter(row => row.error !== null);
  return {
    auto: new Map(rows.filter(row => row.auto && row.name !== '').map(row => [row.name, row.setting])),
    errors: wrong.filter(row => !row.restart).map(row => row.error ?? ''),
    pending: [...new Set(wrong.filter(row => row.restart).map(row => row.name))],
  };
}

/** Gives a thing the one or the other value. Databases are changed together by {@link setDatabases}. */
export async function setTo(
  client: pg.Client,
  change: SettingChange | RoleSettingChange | SubscriptionChange,
  which: 'before' | 'during',
): Promise<void> {
  await queryRows(client, describeSetting(change), { text: settingSql(change, change[which]) });
}

function describeSetting(change: SettingChange | RoleSettingChange | SubscriptionChange): string {
  return `change the ${change.kind === 'subscription' ? 'subscription' : 'setting'} '${change.name}'`;
}

/** The statement that gives a setting or a subscription a value; null: none. */
export function settingSql(
  change: SettingChange | RoleSettingChange | SubscriptionChange,
  value: string | null,
): string {
  if (change.kind === 'subscription')
    return `alter subscription ${quoteIdentifier(change.name)} ${value === 'enabled' ? 'enable' : 'disable'}`;
  const assign =
    value === null
      ? `reset ${quoteIdentifier(change.name)}`
      : `set ${quoteIdentifier(change.name)} = ${quoteLiteral(value)}`;
  if (change.kind === 'setting') return `alter system ${assign}`;
  const database = change.database === null ? null : quoteIdentifier(change.database);
  if (change.role === null && database !== null) return `alter database ${database} ${assign}`;
  const role = change.role === null ? 'all' : quoteIdentifier(change.role);
  return `alter role ${role} ${database === null ? '' : `in database ${database} `}${assign}`;
}

/** Opens or closes databases in one transaction: all of them or none. Dropped ones are passed over. */
export async function setDatabases(
  client: pg.Client,
  changes: readonly DatabaseChange[],
  which: 'before' | 'during',
): Promise<void> {
  if (changes.length === 0) return;
  const names = await databaseNames(client);
  const statements = changes.flatMap(change => {
    const name = names.get(change.oid);
    if (name === undefined) return [];
    const { allowConnections, connectionLimit } = change[which];
    const limited = change.before.connectionLimit !== change.during.connectionLimit;
    const closed = change.before.allowConnections !== change.during.allowConnections;
    const options = `${closed ? ` allow_connections ${allowConnections}` : ''}${limited ? ` connection limit ${connectionLimit}` : ''}`;
    return options === '' ? [] : [`alter database ${quoteIdentifier(name)} with${options}`];
  });
  // Sent as one text it is one transaction.
  await queryRows(client, 'change who may connect to the databases', { text: statements.join(';\n') });
}

async function databaseNames(client: pg.Client): Promise<ReadonlyMap<number, string>> {
  const rows = await queryRows<{ oid: string; name: string }>(client, 'list the databases', {
    text: 'select oid::text, datname::text as name from pg_database',
  });
  return new Map(rows.map(row => [Number(row.oid), row.name]));
}

/** What a recorded thing is now. A subscription is looked up in the shared catalog, from whatever database. */
export async function stateOf(client: pg.Client, change: ServerChange): Promise<ChangeState> {
  const now = await presentValue(client, change);
  if (now === undefined) return 'gone';
  const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
  if (same(now, change.before)) return 'before';
  return same(now, change.during) ? 'during' : 'other';
}

async function presentValue(client: pg.Client, change: ServerChange): Promise<unknown> {
  const doing = 'compare what was changed with the record of it';
  switch (change.kind) {
    case 'setting':
      return (await readFileSettings(client)).auto.get(change.name) ?? null;
    case 'role-setting': {
      const [row] = await queryRows<{ value: string | null; known: boolean }>(client, doing, {
        text: `select (select substr(c, length($3) + 2) from pg_db_role_setting s, unnest(setconfig) c
                       where setdatabase = coalesce((select oid from pg_database where datname = $1), 0)
                         and setrole = coalesce((select oid from pg_roles where rolname = $2), 0)
                         and starts_with(c, $3 || '=')) as value,
                      ($1::text is null or exists (select from pg_database where datname = $1))
                        and ($2::text is null or exists (select from pg_roles where rolname = $2)) as known`,
        values: [change.database, change.role, change.name],
      });
      return row?.known === true ? row.value : undefined;
    }
    case 'database': {
      const [row] = await queryRows<DatabaseAccess>(client, doing, {
        text: `select datallowconn as "allowConnections", datconnlimit as "connectionLimit" from pg_database where oid = $1`,
        values: [change.oid],
      });
      return row;
    }
    case 'subscription': {
      const [row] = await queryRows<{ state: string }>(client, doing, {
        text: `select case when subenabled then 'enabled' else 'disabled' end as state
               from pg_subscription s join pg_database d on d.oid = s.subdbid where d.datname = $1 and s.subname = $2`,
        values: [change.database, change.name],
      });
      return row?.state;
    }
  }
}

/** Makes the server read its configuration again. It does so a moment later. */
export async function reloadConfiguration(client: pg.Client): Promise<void> {
  await queryRow(client, 'make the server read its configuration again', {
    text: 'select pg_reload_conf() as done',
  });
}

/** What a session that has just begun is told: whether it may write, and the server's time. */
export async function readNewSession(
  client: pg.Client,
): Promise<{ readonly readOnly: boolean; readonly time: string; readonly iso: string }> {
  return await queryRow(client, 'see what a new session may do', {
    text: `select current_setting('default_transaction_read_only')::boolean as "readOnly", clock_timestamp()::text as time,
                  ${isoTime('clock_timestamp()')} as iso`,
  });
}

/**
 * When the server last read its configuration, as this session knows it. It tells its sessions when it has done so itself: a session
 * that begins after one of them knows of it has the new values.
 * @source PostgreSQL manual, "Session Information Functions", pg_conf_load_time
 */
export async function readReloadTime(client: pg.Client): Promise<string> {
  const { time } = await queryRow<{ time: string }>(client, 'see when the configuration was read', {
    text: 'select pg_conf_load_time()::text as time',
  });
  return time;
}
