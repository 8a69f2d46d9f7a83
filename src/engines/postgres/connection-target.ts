import { existsSync } from 'node:fs';
import { userInfo } from 'node:os';
import { AppError } from '../../base/errors.ts';

export const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
export type SslMode = (typeof sslModes)[number];

/** How to reach a server. What is not given comes from the PG* environment variables, then from PostgreSQL's defaults. */
export interface ConnectionSettings {
  /** A name, an address, or the directory of a Unix socket (starts with `/`). */
  readonly host?: string;
  readonly port?: number;
  readonly user?: string;
  readonly database?: string;
  /** Asked only when the server wants one. Without it: PGPASSWORD, then the password file (~/.pgpass). */
  readonly password?: () => Promise<string>;
  readonly sslMode?: SslMode;
  /** Files in PEM form. */
  readonly sslRootCert?: string;
  readonly sslCert?: string;
  readonly sslKey?: string;
  readonly connectTimeoutMs?: number;
}

/** Settings with every gap filled. */
export interface ConnectionTarget {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly database: string;
  readonly sslMode: SslMode;
  readonly sslRootCert: string | undefined;
  readonly sslCert: string | undefined;
  readonly sslKey: string | undefined;
  readonly connectTimeoutMs: number;
}

/** Where servers put their socket: Debian and Red Hat, then PostgreSQL's own default. */
const SOCKET_DIRECTORIES = ['/var/run/postgresql', '/tmp'];
const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Reads `postgres://user@host:port/database?sslmode=require`; every part may be missing, and
 * `?host=/var/run/postgresql` names a socket directory.
 *
 * @throws SECRET_EXPOSED there is a password in it; the message does not repeat it
 * @throws USAGE
 */
export function parseConnectionUrl(text: string): ConnectionSettings {
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?#]*)@)?([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(text);
  if (!match) {
    // The text itself is not shown: what cannot be read may still hold a password.
    throw new AppError('USAGE', 'unable to read the connection URL', {
      hint: 'Write it like postgres://user@host:5432/database; special characters as %XX.',
    });
  }
  const [, userInfoText = '', address = '', database = '', query = ''] = match;
  const parameters = new URLSearchParams(query);
  const colon = userInfoText.indexOf(':');
  if (colon >= 0 || parameters.has('password')) throw passwordInUrl();
  return withoutEmpty({
    ...parseAddress(address),
    user: decode(userInfoText),
    database: decode(database),
    ...parseParameters(parameters),
  });
}

/**
 * The URL of the local server, with what the environment says of it, for a file that is read in other environments: a
 * service has no PGHOST and no PGPORT.
 */
export function localUrl(env: NodeJS.ProcessEnv): string {
  const user = env.PGUSER ? `${encodeURIComponent(env.PGUSER)}@` : '';
  const parameters = new URLSearchParams({
    ...(env.PGHOST ? { host: env.PGHOST } : {}),
    ...(env.PGPORT ? { port: env.PGPORT } : {}),
  });
  const query = parameters.size === 0 ? '' : `?${parameters.toString().replaceAll('%2F', '/')}`;
  return `postgresql://${user}/postgres${query}`;
}

function passwordInUrl(): AppError {
  return new AppError('SECRET_EXPOSED', 'unable to take a password in a connection URL: others can read it', {
    hint: 'Put it into ~/.pgpass (mode 0600), or into the environment variable PGPASSWORD, and leave it out of the URL.',
  });
}

function parseAddress(address: string): { host: string; port?: number } {
  if (address.includes(',')) throw usage('a connection URL names one server', address);
  const match = /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(address);
  if (!match) throw usage('unable to read the address', address);
  const host = decode(match[1]!.replace(/^\[|\]$/g, ''));
  return match[2] === undefined || match[2] === '' ? { host } : { host, port: parsePort(match[2]) };
}

function parseParameters(parameters: URLSearchParams): ConnectionSettings {
  const settings: Record<string, unknown> = {};
  for (const [name, value] of parameters) {
    if (name === 'host') settings.host = value;
    else if (name === 'port') settings.port = parsePort(value);
    else if (name === 'user') settings.user = value;
    else if (name === 'dbname') settings.database = value;
    else if (name === 'sslmode') settings.sslMode = parseSslMode(value);
    else if (name === 'sslrootcert') settings.sslRootCert = value;
    else if (name === 'sslcert') settings.sslCert = value;
    else if (name === 'sslkey') settings.sslKey = value;
    else if (name === 'connect_timeout') settings.connectTimeoutMs = parseTimeout(value);
    else throw usage('unknown parameter in the connection URL:', name);
  }
  return settings as ConnectionSettings;
}

/** Fills what is missing: environment, then defaults. @throws DATABASE_UNREACHABLE no host is given and there is no socket */
export function resolveTarget(
  settings: ConnectionSettings,
  env: NodeJS.ProcessEnv = process.env,
  socketDirectories: readonly string[] = SOCKET_DIRECTORIES,
): ConnectionTarget {
  const text = (value: string | undefined, name: string): string | undefined =>
    value || env[name] || undefined;
  const user = text(settings.user, 'PGUSER') ?? userInfo().username;
  const port = settings.port ?? (env.PGPORT ? parsePort(env.PGPORT) : 5432);
  const sslMode = settings.sslMode ?? (env.PGSSLMODE ? parseSslMode(env.PGSSLMODE) : 'prefer');
  return {
    host: text(settings.host, 'PGHOST') ?? findSocket(port, socketDirectories),
    port,
    user,
    database: text(settings.database, 'PGDATABASE') ?? user,
    sslMode,
    sslRootCert: text(settings.sslRootCert, 'PGSSLROOTCERT'),
    sslCert: text(settings.sslCert, 'PGSSLCERT'),
    sslKey: text(settings.sslKey, 'PGSSLKEY'),
    connectTimeoutMs:
      settings.connectTimeoutMs ??
      (env.PGCONNECT_TIMEOUT ? parseTimeout(env.PGCONNECT_TIMEOUT) : CONNECT_TIMEOUT_MS),
  };
}

/** For people: `localhost:5432` or `/var/run/postgresql (port 5432)`. */
export function describeTarget(target: Pick<ConnectionTarget, 'host' | 'port'>): string {
  return target.host.startsWith('/')
    ? `${target.host} (port ${target.port})`
    : `${target.host}:${target.port}`;
}

function findSocket(port: number, directories: readonly string[]): string {
  for (const directory of directories) {
    if (existsSync(`${directory}/.s.PGSQL.${port}`)) return directory;
  }
  const looked = directories.map(directory => `'${directory}/.s.PGSQL.${port}'`).join(' or ');
  throw new AppError(
    'DATABASE_UNREACHABLE',
    `unable to find a running server: there is no socket ${looked}`,
    {
      hint: `Is the server running, on port ${port}? Otherwise give its host and port, or set PGHOST and PGPORT.`,
    },
  );
}

function parsePort(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port >= 1 && port <= 65_535) return port;
  throw usage('unable to read the port', text);
}

function parseTimeout(text: string): number {
  if (/^\d{1,6}$/.test(text)) return Number(text) === 0 ? CONNECT_TIMEOUT_MS : Number(text) * 1000;
  throw usage('unable to read the timeout in seconds', text);
}

function parseSslMode(text: string): SslMode {
  const mode = sslModes.find(candidate => candidate === text);
  if (mode !== undefined) return mode;
  throw new AppError('USAGE', `unknown sslmode '${text}'`, { hint: `Known are ${sslModes.join(', ')}.` });
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new AppError(
      'USAGE',
      'unable to read the connection URL: a % is not followed by two hexadecimal digits',
    );
  }
}

function usage(what: string, text: string): AppError {
  return new AppError('USAGE', `${what} '${text}'`, {
    hint: 'Write it like postgres://user@host:5432/database.',
  });
}

function withoutEmpty(settings: ConnectionSettings): ConnectionSettings {
  return Object.fromEntries(
    Object.entries(settings).filter(([, value]) => value !== '' && value !== undefined),
  );
}
