import { AppError, systemCode } from '../../base/errors.ts';
import { connect, queryRow, queryRows, type Session } from '../../engines/postgres/connection.ts';
import { ALLOW_MASS_WRITE } from '../../engines/postgres/guard-objects.ts';
import type { InstanceContext } from '../instance-context.ts';
import { settleOutput } from './row-source.ts';

export interface LiveSession extends AsyncDisposable {
  readonly session: Session;
  readonly database: string;
  /** Triggers and foreign keys do not fire in it. */
  readonly replica: boolean;
}

/** What is stopped at level hard or strict is stopped for everybody. */
const AFTER_RESUME =
  'Nothing was changed. Where writes were stopped at level hard or strict, run `aishell emergency resume-writes` first: an undo keeps what others write meanwhile. `aishell emergency stop-writes --level soft` right after it keeps applications from writing, and lets an undo work.';

/** A lock on a table is waited for so long; then the batch is tried again. */
const LOCK_TIMEOUT_MS = 3000;

/**
 * The session in which rows are put back. Writes may be stopped: this one is allowed to, as it was asked for. Its commits
 * do not wait for the disk; the last one does, and with it all before.
 *
 * @throws LOCKED when another run puts back rows of the same transaction; UNDO_REFUSED when the database is gone or closed, or
 * the server is in recovery mode
 */
export async function openLiveSession(
  context: Pick<InstanceContext, 'connection' | 'instance'>,
  of: { readonly database: number; readonly xid: number },
  signal: AbortSignal,
): Promise<LiveSession> {
  const database = await databaseName(context, of.database, signal);
  const session = await open(context, database, signal);
  try {
    await settleOutput(session, signal);
    await queryRows(session, 'set up the session', {
      text: `select set_config(s.key, s.value, false) from json_each_text($1::json) s`,
      values: [JSON.stringify(sessionSettings)],
      signal,
    });
    await refuseRecovery(session, signal);
    await lock(session, of.xid, signal);
    const replica = await switchTriggersOff(session, signal);
    return {
      session,
      database,
      replica,
      [Symbol.asyncDispose]: async () => await session.end().catch(() => undefined),
    };
  } catch (error) {
    await session.end().catch(() => undefined);
    throw error;
  }
}

/** Rows wait in a temporary table: what fits into memory is not written to the disk. */
const sessionSettings: Readonly<Record<string, string>> = {
  default_transaction_read_only: 'off',
  // Where triggers cannot be switched off, those that refuse a change of many rows let this one through.
  [ALLOW_MASS_WRITE]: 'on',
  lock_timeout: String(LOCK_TIMEOUT_MS),
  temp_buffers: '64MB',
  work_mem: '64MB',
};

async function databaseName(
  context: Pick<InstanceContext, 'connection' | 'instance'>,
  oid: number,
  signal: AbortSignal,
): Promise<string> {
  const session = await open(context, undefined, signal);
  try {
    const [row] = await queryRows<{ name: string }>(session, 'find the database', {
      text: 'select datname as name from pg_database where oid = $1::int8::oid',
      values: [oid],
      signal,
    });
    if (row !== undefined) return row.name;
  } finally {
    await session.end().catch(() => undefined);
  }
  throw new AppError('UNDO_REFUSED', 'unable to undo the transaction: its database is not there any more', {
    hint: 'Nothing was changed. `aishell backup restore` brings it back, in place or into another directory.',
  });
}

/** @throws UNDO_REFUSED the database lets nobody in, as after a stop of writes at level hard; and as connect */
async function open(
  { connection }: Pick<InstanceContext, 'connection'>,
  database: string | undefined,
  signal: AbortSignal,
): Promise<Session> {
  const own = database === undefined ? {} : { database };
  try {
    return await connect(connection, { ...own, applicationName: 'aishell undo', signal });
  } catch (error) {
    if (!(error instanceof AppError) || systemCode(error.cause) !== '55000') throw error;
    throw new AppError('UNDO_REFUSED', 'unable to undo the transaction: its database takes no connections', {
      hint: AFTER_RESUME,
      cause: error,
    });
  }
}

async function refuseRecovery(session: Session, signal: AbortSignal): Promise<void> {
  const { recovering } = await queryRow<{ recovering: boolean }>(session, 'look at the server', {
    text: 'select pg_is_in_recovery() as recovering',
    signal,
  });
  if (!recovering) return;
  throw new AppError('UNDO_REFUSED', 'unable to undo the transaction: the server is in recovery mode', {
    hint: AFTER_RESUME,
  });
}

/** Held as long as the session, which a killed run leaves to the server to end. */
async function lock(session: Session, xid: number, signal: AbortSignal): Promise<void> {
  const { locked } = await queryRow<{ locked: boolean }>(session, 'lock the undo', {
    text: `select pg_try_advisory_lock(hashtextextended('aishell undo ' || $1, 0)) as locked`,
    values: [String(xid)],
    signal,
  });
  if (locked) return;
  throw new AppError('LOCKED', `another run is putting back what transaction ${xid} destroyed`, {
    hint: 'A run that was killed ends on the server within seconds: try again then.',
  });
}

/** Needs a superuser or, since PostgreSQL 15, a grant. */
async function switchTriggersOff(session: Session, signal: AbortSignal): Promise<boolean> {
  try {
    await queryRows(session, 'switch triggers off', {
      text: 'set session_replication_role = replica',
      signal,
    });
    return true;
  } catch (error) {
    if (error instanceof AppError && error.code === 'DATABASE_DENIED') return false;
    throw error;
  }
}
