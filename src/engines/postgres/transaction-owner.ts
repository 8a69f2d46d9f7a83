import type pg from 'pg';
import { systemCode } from '../../base/errors.ts';
import { queryRow, queryRows } from './connection.ts';
import { statementError } from './connection-errors.ts';
import { isoTime } from './server-facts.ts';

/** Whose a transaction is. */
export interface TransactionOwner {
  readonly pid: number;
  readonly role: string | null;
  readonly application: string | null;
  /** An address; null for a local socket. */
  readonly client: string | null;
  readonly database: string | null;
  readonly query: string | null;
  readonly queryStartedAt: string | null;
  readonly transactionStartedAt: string | null;
  /** `active`, `idle in transaction`, … */
  readonly state: string | null;
  /** `client backend`, … */
  readonly kind: string;
  /** The lower 32 bits of the transaction that this one is a part of: itself, unless it is a subtransaction. */
  readonly topXid: number | null;
}

const columns = `
  a.pid, a.usename::text as role, nullif(a.application_name, '') as application, host(a.client_addr) as client,
  a.datname::text as database, a.query, ${isoTime('a.query_start')} as "queryStartedAt",
  ${isoTime('a.xact_start')} as "transactionStartedAt", a.state, a.backend_type as kind`;

/** Every transaction holds a lock on its own number, and on those of its subtransactions. */
const holds = `l.locktype = 'transactionid' and l.mode = 'ExclusiveLock' and l.granted`;

/** Who runs a transaction or subtransaction that has not ended; null when nobody does any more, or it is prepared. */
export async function findOwner(client: pg.Client, xid: number): Promise<TransactionOwner | null> {
  const [found] = await queryRows<TransactionOwner>(client, 'find whose a transaction is', {
    text: `select ${columns}, a.backend_xid::text::int8::float8 as "topXid"
           from pg_locks l join pg_stat_activity a on a.pid = l.pid
           where ${holds} and l.transactionid = $1::text::xid`,
    values: [String(xid)],
  });
  return found ?? null;
}

/**
 * The session that has just ended a transaction with a statement of this kind, by what it did last: it must have begun
 * before and ended within a moment of `at`. Null when that is none, or more than one.
 */
export async function findLikelyOwner(
  client: pg.Client,
  ended: { readonly database: string | null; readonly at: Date; readonly words: string },
): Promise<TransactionOwner | null> {
  const found = await queryRows<TransactionOwner>(client, 'find whose a transaction was', {
    text: `select ${columns}, null as "topXid" from pg_stat_activity a
           where a.backend_type = 'client backend' and a.pid <> pg_backend_pid()
             and ($1::text is null or a.datname = $1) and a.query ~* $3
             and a.query_start <= $2::timestamptz
             and (a.state = 'active' or abs(extract(epoch from a.state_change - $2::timestamptz)) < 0.5)`,
    values: [ended.database, ended.at.toISOString(), ended.words],
  });
  return found.length === 1 ? (found[0] ?? null) : null;
}

/**
 * Cancels the statement that runs in a transaction: the session is found and told in one statement, so that it is never
 * one that has gone on to something else before. Null when the transaction has ended.
 */
export async function cancelTransaction(client: pg.Client, xid: number): Promise<number | null> {
  return await signalOwner(client, { xid, call: 'pg_cancel_backend' });
}

/** Ends the session of a transaction: a cancelled statement is no end of one that waits for its next. Null as above. */
export async function terminateTransaction(client: pg.Client, xid: number): Promise<number | null> {
  return await signalOwner(client, { xid, call: 'pg_terminate_backend' });
}

/** The name under which a transaction is prepared for a commit in two phases; null when it is not. */
export async function findPrepared(client: pg.Client, xid: number): Promise<string | null> {
  const [found] = await queryRows<{ gid: string }>(client, 'see whether a transaction is prepared', {
    text: 'select gid from pg_prepared_xacts where transaction = $1::text::xid',
    values: [String(xid)],
  });
  return found?.gid ?? null;
}

async function signalOwner(
  client: pg.Client,
  { xid, call }: { readonly xid: number; readonly call: 'pg_cancel_backend' | 'pg_terminate_backend' },
): Promise<number | null> {
  const [found] = await queryRows<{ pid: number; told: boolean }>(client, 'cancel a transaction', {
    text: `select l.pid, ${call}(l.pid) as told from pg_locks l
           where ${holds} and l.transactionid = $1::text::xid and l.pid is not null and l.pid <> pg_backend_pid()`,
    values: [String(xid)],
  });
  return found?.told === true ? found.pid : null;
}

/** The lower 32 bits of the number that the next transaction gets. */
export async function readNextXid(client: pg.Client): Promise<number> {
  const { xid } = await queryRow<{ xid: string }>(client, 'read the number of the next transaction', {
    text: 'select pg_snapshot_xmax(pg_current_snapshot())::text as xid',
  });
  return low32(xid);
}

/** A snapshot that this session holds, and what it sees. */
export interface ExportedSnapshot {
  /** For `SET TRANSACTION SNAPSHOT`. */
  readonly name: string;
  /** As pg_current_snapshot() prints it: `xmin:xmax:running,…`, in 64 bits. */
  readonly sees: string;
}

/** Begins a transaction whose snapshot others can use as long as the session stays open. */
export async function exportSnapshot(client: pg.Client): Promise<ExportedSnapshot> {
  try {
    // In one message, as every round trip gives the other transaction time to commit; of each statement there is a result.
    const results: unknown = await client.query(
      `begin isolation level repeatable read read only;
       select pg_export_snapshot() as name, pg_current_snapshot()::text as sees`,
    );
    const [, { rows }] = results as readonly [unknown, { readonly rows: readonly [ExportedSnapshot] }];
    return rows[0];
  } catch (error) {
    throw statementError(error, 'hold a snapshot', client.user ?? '');
  }
}

/** Of what exported snapshots are called nothing needs quoting. */
export function isSnapshotName(name: string): boolean {
  return /^[0-9A-F-]{1,64}$/i.test(name);
}

/** Whether somebody still holds an exported snapshot of the client's database. */
export async function isSnapshotHeld(client: pg.Client, name: string): Promise<boolean> {
  if (!isSnapshotName(name)) return false;
  await client.query('begin isolation level repeatable read read only');
  try {
    // A literal, as SET takes no parameters.
    await client.query(`set transaction snapshot '${name}'`);
    return true;
  } catch (error) {
    // invalid_parameter_value, object_not_in_prerequisite_state: there is none of this name, or its session is gone.
    if (['22023', '55000', '42704'].includes(systemCode(error) ?? '')) return false;
    throw statementError(error, 'look for a snapshot', client.user ?? '');
  } finally {
    await client.query('rollback').catch(() => undefined);
  }
}

/** Whether a snapshot sees the state before a transaction: it was running then, or had not begun. `xid`: 32 bits. */
export function seesBefore({ sees }: Pick<ExportedSnapshot, 'sees'>, xid: number): boolean {
  const [, xmax = '0', running = ''] = sees.split(':');
  if (((xid - low32(xmax)) | 0) >= 0) return true;
  return running.split(',').some(each => each !== '' && low32(each) === xid);
}

/** Whether others see what a transaction did: its commit is in the log a moment before. `xid`: 32 bits. */
export async function isSeen(client: pg.Client, xid: number): Promise<boolean> {
  const snapshot = await queryRow<{ sees: string }>(client, 'see whether a transaction is over', {
    text: 'select pg_current_snapshot()::text as sees',
  });
  return !seesBefore(snapshot, xid);
}

function low32(text: string): number {
  return Number(BigInt(text) & 0xffff_ffffn);
}
