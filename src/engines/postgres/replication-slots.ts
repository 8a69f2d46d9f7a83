import type pg from 'pg';
import { queryRow, queryRows, type Statement } from './connection.ts';
import { classifyLogFileName, parseLsn } from './lsn.ts';

/** A physical replication slot, which keeps the server from removing log that was not received yet. */
export interface SlotState {
  readonly name: string;
  /** The server process that streams from it; null when none does. */
  readonly activePid: number | null;
  /** Where the log is kept from; null when the slot keeps nothing (any more). */
  readonly restartLsn: bigint | null;
  /** `reserved`, `extended`, `unreserved` (may be lost at the next checkpoint), `lost`. */
  readonly walStatus: string | null;
  /** How much more log may be written before the slot is lost; null without a limit. */
  readonly safeBytes: number | null;
  /** How much log the server keeps for it. */
  readonly retainedBytes: number | null;
  /** `max_slot_wal_keep_size`; null without a limit. */
  readonly limitBytes: number | null;
}

interface SlotRow {
  readonly active_pid: number | null;
  readonly restart_lsn: string | null;
  readonly wal_status: string | null;
  readonly safe_wal_size: string | null;
  readonly retained: string | null;
  readonly limit_mb: string;
}

/** Null when there is no slot of this name. @throws DATABASE_DENIED DATABASE_UNREACHABLE DATABASE_FAILED */
export async function readSlot(
  client: pg.Client,
  name: string,
  signal?: AbortSignal,
): Promise<SlotState | null> {
  const [row] = await queryRows<SlotRow>(client, 'look at the replication slot', {
    text: `select active_pid, restart_lsn::text, wal_status, safe_wal_size::text,
             (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end
               - restart_lsn)::text as retained,
             (select setting from pg_settings where name = 'max_slot_wal_keep_size') as limit_mb
           from pg_replication_slots where slot_name = $1 and slot_type = 'physical'`,
    values: [name],
    ...withSignal(signal),
  });
  if (row === undefined) return null;
  const number = (text: string | null): number | null => (text === null ? null : Number(text));
  return {
    name,
    activePid: row.active_pid,
    restartLsn: row.restart_lsn === null ? null : parseLsn(row.restart_lsn),
    walStatus: row.wal_status,
    safeBytes: number(row.safe_wal_size),
    retainedBytes: number(row.retained),
    limitBytes: Number(row.limit_mb) < 0 ? null : Number(row.limit_mb) * 2 ** 20,
  };
}

/** Creates a slot that keeps the log from the last checkpoint on, at once. */
export async function createSlot(client: pg.Client, name: string, signal?: AbortSignal): Promise<void> {
  await queryRow(client, `create the replication slot '${name}'`, {
    text: 'select pg_create_physical_replication_slot($1, true)',
    values: [name],
    ...withSignal(signal),
  });
}

export async function dropSlot(client: pg.Client, name: string, signal?: AbortSignal): Promise<void> {
  await queryRow(client, `drop the replication slot '${name}'`, {
    text: 'select pg_drop_replication_slot($1)',
    values: [name],
    ...withSignal(signal),
  });
}

/** The starts of the segments of a timeline that are in the server's pg_wal, ascending. Recycled ones are ahead of its end. */
export async function listServerSegments(
  client: pg.Client,
  of: { readonly timeline: number; readonly segmentSize: number },
  signal?: AbortSignal,
): Promise<bigint[]> {
  const rows = await queryRows<{ name: string }>(client, "list the server's log", {
    text: 'select name from pg_ls_waldir() order by name',
    ...withSignal(signal),
  });
  return rows.flatMap(({ name }) => {
    const file = classifyLogFileName(name, of.segmentSize);
    return file?.kind === 'segment' && file.timeline === of.timeline ? (file.lsn ?? []) : [];
  });
}

function withSignal(signal: AbortSignal | undefined): Pick<Statement, 'signal'> {
  return signal === undefined ? {} : { signal };
}
