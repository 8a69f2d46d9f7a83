import { AppError } from '../../base/errors.ts';
import { connect, queryRow, queryRows, type Session } from '../../engines/postgres/connection.ts';
import { failureOf, type StatementFailure } from '../../engines/postgres/sql/statement-failure.ts';
import {
  type StreamedStatement,
  type StreamHandlers,
  streamStatement,
} from '../../engines/postgres/sql/stream-statement.ts';
import { CONSOLE_APPLICATION } from '../../engines/postgres/write-sessions.ts';
import type { SqlContext, SqlSettings } from './sql-context.ts';

/** Where a session stands. */
export interface SessionFacts {
  readonly database: string;
  readonly role: string;
  readonly isSuperuser: boolean;
  readonly pid: number;
  /** Major version of the server. */
  readonly version: number;
  /** A standby: it takes no writes. */
  readonly inRecovery: boolean;
  /** Whether changed rows are counted. */
  readonly countsRows: boolean;
}

/** A session with the settings that its role and database have by themselves, and bounds of this console's. */
export async function openSqlSession(
  context: SqlContext,
  settings: SqlSettings,
  signal: AbortSignal,
): Promise<{ readonly session: Session; readonly facts: SessionFacts }> {
  const session = await connect(context.connection, {
    applicationName: CONSOLE_APPLICATION,
    signal,
    ...(settings.database === null ? {} : { database: settings.database }),
  });
  try {
    // What a connection of ours sets for backups is wrong for somebody's own statements.
    await queryRows(session, 'set up the session', { text: 'reset all' });
    await queryRows(session, 'set up the session', {
      text: `select pg_catalog.set_config(name, value, false)
             from pg_catalog.json_each_text($1::pg_catalog.json) s(name, value)`,
      values: [JSON.stringify(sessionSettings(settings))],
    });
    return { session, facts: await readFacts(session) };
  } catch (error) {
    await session.end().catch(() => undefined);
    throw error;
  }
}

function sessionSettings(settings: SqlSettings): Readonly<Record<string, string>> {
  return {
    lock_timeout: `${settings.lockTimeoutMs}ms`,
    statement_timeout: `${settings.statementTimeoutMs}ms`,
    // The parser reads strings so.
    standard_conforming_strings: 'on',
    backslash_quote: 'safe_encoding',
    ...(settings.readOnly ? { default_transaction_read_only: 'on' } : {}),
  };
}

async function readFacts(session: Session): Promise<SessionFacts> {
  return await queryRow<SessionFacts>(session, 'look at the session', {
    text: `select pg_catalog.current_database() as database, session_user as role,
                  pg_catalog.current_setting('is_superuser') = 'on' as "isSuperuser", pg_catalog.pg_backend_pid() as pid,
                  pg_catalog.current_setting('server_version_num')::pg_catalog.int4 / 10000 as version,
                  pg_catalog.pg_is_in_recovery() as "inRecovery",
                  pg_catalog.current_setting('track_counts')::pg_catalog.bool as "countsRows"`,
  });
}

/** Asks the server, on another connection, to end the statement that a session runs. @throws as connect */
export async function cancelStatement(context: SqlContext, { pid, database }: SessionFacts): Promise<void> {
  const session = await connect(context.connection, {
    applicationName: `${CONSOLE_APPLICATION} (cancel)`,
    database,
  });
  try {
    await queryRows(session, 'cancel the statement', {
      text: 'select pg_catalog.pg_cancel_backend($1)',
      values: [pid],
    });
  } finally {
    await session.end().catch(() => undefined);
  }
}

/** Runs a statement of the user's. @throws StatementError */
export async function runText(
  session: Session,
  text: string,
  handlers: StreamHandlers,
): Promise<StreamedStatement> {
  try {
    return await streamStatement(session, text, handlers);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new StatementError(failureOf(error), text);
  }
}

const lostConnection = /^(57P0[1-4]|08...|ECONNRESET|EPIPE)$/;

/** A statement failed, with all that the server said of it. */
export class StatementError extends AppError {
  readonly failure: StatementFailure;
  /** The statement that `failure.position` is a place in. */
  readonly text: string;

  constructor(failure: StatementFailure, text: string) {
    const lost = lostConnection.test(failure.sqlState) || /^Connection terminated/.test(failure.message);
    const hint = failure.hint ?? ownHint(failure.sqlState);
    super(codeOf(failure.sqlState, lost), `unable to run the statement: ${failure.message}`, {
      ...(hint === null ? {} : { hint }),
      details: { ...failure },
    });
    this.failure = failure;
    this.text = text;
  }
}

function codeOf(
  sqlState: string,
  lost: boolean,
): 'DATABASE_UNREACHABLE' | 'DATABASE_DENIED' | 'TIMEOUT' | 'DATABASE_FAILED' {
  if (lost) return 'DATABASE_UNREACHABLE';
  if (sqlState === '42501') return 'DATABASE_DENIED';
  return sqlState === '57014' || sqlState === '55P03' ? 'TIMEOUT' : 'DATABASE_FAILED';
}

/** The next step where the server names none. */
function ownHint(sqlState: string): string | null {
  if (sqlState === '55P03')
    return 'Another session holds a lock. Try again, or wait longer with --lock-timeout.';
  if (sqlState === '57014') return 'A longer one may run with --statement-timeout.';
  if (sqlState === '25006') return 'Are writes stopped? See: aishell emergency status';
  if (sqlState === '25P02') return 'The transaction failed before: end it with ROLLBACK.';
  return null;
}
