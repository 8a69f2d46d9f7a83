import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import pg from 'pg';
import { abortable } from '../../base/abort.ts';
import { AppError, fileError, messageOf, systemCode } from '../../base/errors.ts';
import { connectionError, statementError } from './connection-errors.ts';
import { findPassword } from './connection-password.ts';
import { type ConnectionSettings, type ConnectionTarget, resolveTarget } from './connection-target.ts';

/** A connection to a database server. */
export type Session = pg.Client;

export interface ConnectOptions {
  /** Instead of the settings' own. */
  readonly database?: string;
  /** Shown in pg_stat_activity; `aishell` unless given. */
  readonly applicationName?: string;
  /** A connection that speaks the replication protocol. It takes no settings, so its session keeps the server's. */
  readonly replication?: 'physical' | 'database';
  /** Makes the socket of a connection that is not encrypted; left out, the driver makes it. */
  readonly openSocket?: () => Socket;
  readonly signal?: AbortSignal;
  readonly env?: NodeJS.ProcessEnv;
}

/**
 * What every session of ours sets, as far as the server knows it:
 * no timeout of the role or database may end a backup half way; names without a schema mean PostgreSQL's own objects
 * and nothing that a user put in their way; rows hidden by a policy are an error, never silently missing; a server that
 * runs a long statement notices when we are gone.
 */
const sessionSettings: Readonly<Record<string, string>> = {
  lock_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
  transaction_timeout: '0',
  search_path: '',
  row_security: 'off',
  synchronous_commit: 'off',
  jit: 'off',
  TimeZone: 'UTC',
  DateStyle: 'ISO, YMD',
  IntervalStyle: 'postgres',
  client_connection_check_interval: '5s',
};

/** The last is known to Linux servers alone; elsewhere it cannot be set. */
const setSessionSql = `
  select pg_catalog.set_config(s.name, v.value, false)
  from pg_catalog.json_each_text($1::json) v(name, value)
  join pg_catalog.pg_settings s on s.name operator(pg_catalog.=) v.name
  where v.name operator(pg_catalog.<>) 'client_connection_check_interval'
     or pg_catalog.version() operator(pg_catalog.~*) 'linux'`;

/**
 * Opens a session. Names in its statements need their schema (`public.users`): its search_path is empty. The caller
 * ends it with `client.end()`. When the connection breaks later, the statement that runs then, or the next one, fails.
 *
 * @throws DATABASE_UNREACHABLE DATABASE_DENIED, each with the next step; the signal's reason when cancelled
 */
export async function connect(
  settings: ConnectionSettings,
  options: ConnectOptions = {},
): Promise<pg.Client> {
  options.signal?.throwIfAborted();
  const env = options.env ?? process.env;
  const named = options.database === undefined ? settings : { ...settings, database: options.database };
  const target = resolveTarget(named, env);
  const client = await connectWithSsl(target, { ...options, env, password: settings.password });
  if (options.replication !== undefined) return client;
  try {
    // By itself and first: the timeout of the role or database counts until then, and the rest takes longer.
    await queryRows(client, 'set up the session', { text: 'set statement_timeout = 0' });
    await queryRows(client, 'set up the session', {
      text: setSessionSql,
      values: [JSON.stringify(sessionSettings)],
    });
    return client;
  } catch (error) {
    await client.end().catch(() => undefined);
    throw error;
  }
}

interface AttemptOptions extends ConnectOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly password: ConnectionSettings['password'];
}

/** Tries the kinds of connection that the SSL mode allows, in its order. @source PostgreSQL manual, "SSL Support" */
async function connectWithSsl(target: ConnectionTarget, options: AttemptOptions): Promise<pg.Client> {
  const kinds: (TlsOptions | false)[] = target.host.startsWith('/') ? [false] : await sslKinds(target);
  for (const [index, ssl] of kinds.entries()) {
    try {
      return await attempt(target, ssl, options);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (error instanceof AppError) throw error;
      const another = index + 1 < kinds.length && mayTryOtherKind(error);
      if (!another) throw connectionError(error, target);
    }
  }
  throw new AppError('DATABASE_UNREACHABLE', 'unable to connect');
}

async function sslKinds(target: ConnectionTarget): Promise<(TlsOptions | false)[]> {
  if (target.sslMode === 'disable') return [false];
  const ssl = await tlsOptions(target);
  if (target.sslMode === 'allow') return [false, ssl];
  return target.sslMode === 'prefer' ? [ssl, false] : [ssl];
}

async function tlsOptions(target: ConnectionTarget): Promise<TlsOptions> {
  const read = async (path: string | undefined): Promise<Buffer | undefined> =>
    path === undefined
      ? undefined
      : await readFile(path).catch(error => Promise.reject(fileError('read', path, error)));
  const [ca, cert, key] = [
    await read(target.sslRootCert),
    await read(target.sslCert),
    await read(target.sslKey),
  ];
  // As libpq does: `require` checks the authority when one is given, and only verify-full checks the name.
  const verify = target.sslMode.startsWith('verify') || (target.sslMode === 'require' && ca !== undefined);
  return {
    rejectUnauthorized: verify,
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(target.sslMode === 'verify-full' ? {} : { checkServerIdentity: () => undefined }),
  };
}

/** The server speaks no SSL, or wants the other kind (pg_hba.conf); anything else would fail again. */
function mayTryOtherKind(error: unknown): boolean {
  return (
    /does not support SSL|establishing an SSL connection/.test(messageOf(error)) ||
    systemCode(error) === '28000'
  );
}

async function attempt(
  target: ConnectionTarget,
  ssl: TlsOptions | false,
  options: AttemptOptions,
): Promise<pg.Client> {
  const password = options.password ?? (async () => (await findPassword(target, options.env)) ?? '');
  const config: pg.ClientConfig & { replication?: string } = {
    host: target.host,
    port: target.port,
    user: target.user,
    database: target.database,
    ssl,
    password,
    keepAlive: true,
    connectionTimeoutMillis: target.connectTimeoutMs,
    application_name: options.applicationName ?? 'aishell',
    ...(ssl === false && options.openSocket !== undefined ? { stream: options.openSocket } : {}),
    ...(options.replication === undefined
      ? {}
      : { replication: options.replication === 'physical' ? 'true' : 'database' }),
  };
  const client = new pg.Client(config);
  // A connection that breaks while idle raises this event, which without a listener would end the program. The next
  // statement reports it.
  client.on('error', () => undefined);
  try {
    await abortable(client.connect(), options.signal);
    return client;
  } catch (error) {
    client.end().catch(() => undefined);
    throw error;
  }
}

/** Does something on a connection of its own, which is closed in every case. @throws as {@link connect}, and what `work` throws */
export async function withConnection<T>(
  settings: ConnectionSettings,
  options: ConnectOptions,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = await connect(settings, options);
  try {
    return await work(client);
  } finally {
    await client.end().catch(() => undefined);
  }
}

export interface Statement {
  readonly text: string;
  readonly values?: readonly unknown[];
  /** When it aborts, the whole session is given up: there is no other way to stop a running statement from here. */
  readonly signal?: AbortSignal;
}

/**
 * Runs one statement and gives its rows; `doing` completes 'unable to …' in its error.
 *
 * @throws DATABASE_DENIED DATABASE_UNREACHABLE DATABASE_FAILED TIMEOUT; the signal's reason when cancelled
 */
export async function queryRows<Row extends object>(
  client: pg.Client,
  doing: string,
  statement: Statement,
): Promise<Row[]> {
  return (await runStatement<Row & pg.QueryResultRow>(client, doing, statement)).rows;
}

/** As {@link queryRows}, for a statement that changes rows: gives how many. */
export async function changeRows(client: pg.Client, doing: string, statement: Statement): Promise<number> {
  return (await runStatement(client, doing, statement)).rowCount ?? 0;
}

async function runStatement<Row extends pg.QueryResultRow>(
  client: pg.Client,
  doing: string,
  statement: Statement,
): Promise<pg.QueryResult<Row>> {
  const { signal } = statement;
  signal?.throwIfAborted();
  const giveUp = (): void => void client.end().catch(() => undefined);
  signal?.addEventListener('abort', giveUp, { once: true });
  try {
    return await client.query<Row>(statement.text, [...(statement.values ?? [])]);
  } catch (error) {
    signal?.throwIfAborted();
    throw statementError(error, doing, client.user ?? '');
  } finally {
    signal?.removeEventListener('abort', giveUp);
  }
}

/** As {@link queryRows}, for a statement that gives one row. */
export async function queryRow<Row extends object>(
  client: pg.Client,
  doing: string,
  statement: Statement,
): Promise<Row> {
  const [row] = await queryRows<Row>(client, doing, statement);
  if (row === undefined) throw new AppError('DATABASE_FAILED', `unable to ${doing}: the server gave no row`);
  return row;
}
