import { AppError, messageOf, systemCode } from '../../base/errors.ts';
import { type ConnectionTarget, describeTarget } from './connection-target.ts';

/** What a failed attempt to connect means, with the next step. */
export function connectionError(error: unknown, target: ConnectionTarget): AppError {
  const where = describeTarget(target);
  const code = systemCode(error);
  const message = messageOf(error);
  const unreachable = (why: string, hint: string): AppError =>
    new AppError('DATABASE_UNREACHABLE', `unable to connect to the server at ${where}: ${why}`, {
      hint,
      cause: error,
    });
  const denied = (hint: string): AppError =>
    new AppError(
      'DATABASE_DENIED',
      `unable to connect to the server at ${where} as '${target.user}': ${message}`,
      {
        hint,
        cause: error,
      },
    );
  switch (code) {
    case 'ECONNREFUSED':
      return unreachable(
        'nothing answers there',
        `Is the server running, and does it listen on port ${target.port}?`,
      );
    case 'ENOENT':
      return unreachable(
        'there is no such socket',
        `Is the server running? Its setting unix_socket_directories must name '${target.host}'.`,
      );
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return unreachable(
        `the name '${target.host}' is not known`,
        'Check the host name, and that name resolution works here.',
      );
    case 'EACCES':
      return unreachable(
        'permission denied on its socket',
        "Run aishell as the server's own user (often postgres), or connect over TCP.",
      );
    case 'ETIMEDOUT':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return unreachable('it does not answer', 'Check host and port, and any firewall in between.');
    case '28P01':
      return denied(`Give the right password for '${target.user}', in ~/.pgpass or PGPASSWORD.`);
    case '28000':
      return denied(accessHint(target, message));
    case '3D000':
      return unreachable(message, 'Give the name of a database that exists; postgres usually does.');
    case '42501':
      return denied(
        `GRANT CONNECT ON DATABASE ${quoteIdentifier(target.database)} TO ${quoteIdentifier(target.user)};`,
      );
    case '55000':
      return unreachable(
        message,
        'Was it closed by `aishell emergency stop-writes --level hard`? `aishell emergency status` says so, and `aishell emergency resume-writes` opens it.',
      );
    case '53300':
      return unreachable(
        message,
        'Wait until connections are free, or raise max_connections; a superuser may still get in.',
      );
    case '57P03':
      return unreachable(
        message,
        "It is starting up, shutting down or recovering; try again in a moment, and see the server's log.",
      );
    default:
      return otherError(error, target, unreachable);
  }
}

function otherError(
  error: unknown,
  target: ConnectionTarget,
  unreachable: (why: string, hint: string) => AppError,
): AppError {
  const message = messageOf(error);
  if (/timeout expired/.test(message)) {
    return unreachable(
      `no answer within ${target.connectTimeoutMs / 1000} seconds`,
      'Check host and port, and any firewall in between.',
    );
  }
  // What the driver says when the server asks for a password and none was found.
  if (/password must be a string|client password|no password/i.test(message)) {
    return new AppError(
      'DATABASE_DENIED',
      `unable to connect to the server at ${describeTarget(target)}: it asks for a password`,
      {
        hint: `Give the password of '${target.user}' in ~/.pgpass (mode 0600) or PGPASSWORD.`,
        cause: error,
      },
    );
  }
  if (/SSL|certificate|self.signed/i.test(message) || /CERT|SSL|TLS/.test(systemCode(error))) {
    return unreachable(
      message,
      `The connection uses sslmode=${target.sslMode}; give the server's certificate authority as sslrootcert, or another sslmode.`,
    );
  }
  return unreachable(
    message,
    "Is the server running, and are host, port and user right? The server's log may say more.",
  );
}

function accessHint(target: ConnectionTarget, message: string): string {
  if (/role .* does not exist/.test(message)) {
    return `Give the database user to connect as (in the connection URL, or PGUSER), or run it as the server's own user: sudo -u postgres aishell …`;
  }
  if (/[Pp]eer authentication/.test(message)) {
    return `On this socket the operating system's user counts: run it as '${target.user}' (sudo -u ${target.user} …), or connect over TCP with a password.`;
  }
  return `The server's pg_hba.conf must let '${target.user}' in from here.`;
}

/** Rights a statement of ours needs, by what the server's refusal names; the next step is a statement to run. */
const grants: readonly (readonly [RegExp, (user: string) => string])[] = [
  [
    /function (pg_(?:backup_start|start_backup))/,
    user =>
      `GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_backup_stop(boolean) TO ${user}; (before PostgreSQL 15: pg_start_backup(text, boolean, boolean), pg_stop_backup(boolean, boolean))`,
  ],
  [
    /function (pg_(?:backup_stop|stop_backup))/,
    user =>
      `GRANT EXECUTE ON FUNCTION pg_backup_stop(boolean) TO ${user}; (before PostgreSQL 15: pg_stop_backup(boolean, boolean))`,
  ],
  [/function pg_switch_wal/, user => `GRANT EXECUTE ON FUNCTION pg_switch_wal() TO ${user};`],
  [/function (pg_\w+)/, user => `Let ${user} execute this function, or connect as a superuser.`],
  [/replication/i, user => `ALTER ROLE ${user} REPLICATION;`],
  [/CHECKPOINT/i, user => `GRANT pg_checkpoint TO ${user};`],
  [/parameter|setting/i, user => `GRANT pg_monitor TO ${user};`],
];

/** What a failed statement means; `doing` completes 'unable to …'. */
export function statementError(error: unknown, doing: string, user: string): AppError {
  if (error instanceof AppError) return error;
  const code = systemCode(error);
  const message = messageOf(error);
  const options = { cause: error, details: { sqlState: code } };
  if (code === '42501') {
    const grant = grants.find(([pattern]) => pattern.test(message))?.[1];
    const hint = grant?.(quoteIdentifier(user)) ?? `Connect as a superuser, or give '${user}' this right.`;
    return new AppError('DATABASE_DENIED', `unable to ${doing}: ${message}`, { ...options, hint });
  }
  if (
    /^(57P0|08)/.test(code) ||
    /Connection terminated|not queryable|ECONNRESET|EPIPE/.test(`${message} ${code}`)
  ) {
    return new AppError('DATABASE_UNREACHABLE', `unable to ${doing}: the connection was lost: ${message}`, {
      ...options,
      hint: 'Was the server stopped or restarted? Its log says why.',
    });
  }
  if (code === '57014') return new AppError('TIMEOUT', `unable to ${doing}: ${message}`, options);
  return new AppError('DATABASE_FAILED', `unable to ${doing}: ${message}`, options);
}

/** A name as SQL takes it whatever is in it. @source PostgreSQL manual, "Identifiers and Key Words" */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
