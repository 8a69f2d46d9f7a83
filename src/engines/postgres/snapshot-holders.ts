import type pg from 'pg';
import { AppError } from '../../base/errors.ts';
import { queryRow, queryRows } from './connection.ts';
import { parseLsn } from './lsn.ts';
import { isSnapshotName } from './transaction-owner.ts';

/** How the server lists the session that holds the snapshot of an incident. Those called aishell are left alone by stops. */
const PREFIX = 'aishell hold ';

export function holderName(incident: string): string {
  return `${PREFIX}${incident}`;
}

// Of the same role alone: what somebody else's session calls itself says nothing.
const holders = `a.application_name like '${PREFIX}%' and a.usename = current_user and a.backend_type = 'client backend'`;

/** The incidents whose snapshots are held by sessions of their own, of this role. */
export async function listHolders(client: pg.Client): Promise<string[]> {
  const rows = await queryRows<{ name: string }>(client, 'look who holds snapshots', {
    text: `select distinct a.application_name as name from pg_stat_activity a where ${holders}`,
  });
  return rows.map(({ name }) => name.slice(PREFIX.length));
}

/** Ends the session that holds the snapshot of an incident. False where there is none. */
export async function endHolder(client: pg.Client, incident: string): Promise<boolean> {
  const rows = await queryRows<{ told: boolean }>(client, 'end what holds a snapshot', {
    text: `select pg_terminate_backend(a.pid) as told from pg_stat_activity a where ${holders} and a.application_name = $1`,
    values: [holderName(incident)],
  });
  return rows.some(({ told }) => told);
}

/**
 * Takes on a snapshot that another session of the same database has exported, and exports it anew: it is held as long as this
 * session stays open, whatever becomes of the other one.
 *
 * @throws DATABASE_FAILED it is not held any more
 */
export async function adoptSnapshot(client: pg.Client, name: string): Promise<string> {
  const doing = 'take on a snapshot';
  // It goes into a statement that takes no parameters; and it must be the first in its transaction.
  if (!isSnapshotName(name)) throw new AppError('DATABASE_FAILED', `'${name}' is no name of a snapshot`);
  await queryRows(client, doing, { text: 'begin isolation level repeatable read read only' });
  await queryRows(client, doing, { text: `set transaction snapshot '${name}'` });
  return (await queryRow<{ name: string }>(client, doing, { text: 'select pg_export_snapshot() as name' }))
    .name;
}

/** Where the log of the server ends. */
export async function readLogEnd(client: pg.Client): Promise<bigint> {
  const { lsn } = await queryRow<{ lsn: string }>(client, 'read how much is written', {
    text: 'select pg_current_wal_lsn()::text as lsn',
  });
  return parseLsn(lsn);
}
