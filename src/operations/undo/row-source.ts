import { AppError } from '../../base/errors.ts';
import { connect, queryRow, queryRows, type Session } from '../../engines/postgres/connection.ts';
import { isSnapshotName } from '../../engines/postgres/transaction-owner.ts';
import type { HeldSnapshot } from '../incident/incident.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { UndoSource } from './undo-report.ts';

/** A session in a transaction that sees the rows as they were just before they were destroyed. */
export interface RowSource extends AsyncDisposable, UndoSource {
  readonly session: Session;
  readonly database: string;
}

/** The same text for the same value on both sides. */
const outputSettings: Readonly<Record<string, string>> = {
  extra_float_digits: '1',
  bytea_output: 'hex',
  xmlbinary: 'base64',
  lc_monetary: 'C',
};

export async function settleOutput(session: Session, signal: AbortSignal): Promise<void> {
  await queryRows(session, 'set up the session', {
    text: 'select set_config(s.key, s.value, false) from json_each_text($1::json) s',
    values: [JSON.stringify(outputSettings)],
    signal,
  });
}

/** Begins the transaction in which a source is read. */
export async function beginReading(session: Session, signal: AbortSignal): Promise<void> {
  await settleOutput(session, signal);
  await queryRows(session, 'begin to read', {
    text: 'begin isolation level repeatable read read only',
    signal,
  });
}

/**
 * Takes on a snapshot that another session keeps open on the live server.
 *
 * @returns null when it cannot be used any more, with the reason to `onGone`
 */
export async function openHeldSnapshot(
  context: Pick<InstanceContext, 'connection'>,
  snapshot: HeldSnapshot,
  options: { readonly signal: AbortSignal; readonly onGone: (why: string) => void },
): Promise<RowSource | null> {
  const { signal, onGone } = options;
  const { name, database } = snapshot;
  if (snapshot.releasedAt !== null) {
    onGone(`it was released at ${snapshot.releasedAt}`);
    return null;
  }
  // It goes into a statement that takes no parameters.
  if (!isSnapshotName(name)) {
    onGone(`'${name}' is no name of a snapshot`);
    return null;
  }
  const session = await connect(context.connection, { database, applicationName: 'aishell undo', signal });
  try {
    await beginReading(session, signal);
    await queryRows(session, 'take on the held snapshot', {
      text: `set transaction snapshot '${name}'`,
      signal,
    });
    await queryRow(session, 'take on the held snapshot', { text: 'select pg_current_snapshot()', signal });
  } catch (error) {
    await session.end().catch(() => undefined);
    if (!(error instanceof AppError) || error.code !== 'DATABASE_FAILED') throw error;
    onGone(error.message);
    return null;
  }
  return {
    kind: 'snapshot',
    text: `the snapshot ${name}, held since ${snapshot.heldSince}`,
    restored: null,
    session,
    database,
    [Symbol.asyncDispose]: async () => await session.end().catch(() => undefined),
  };
}
