import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { delay } from '../base/abort.ts';
import type { TellNote } from '../base/events.ts';
import { formatBytes } from '../base/sizes.ts';
import { connect, queryRow, type Session } from '../engines/postgres/connection.ts';
import type { ConnectionSettings } from '../engines/postgres/connection-target.ts';
import { readSlot, type SlotState } from '../engines/postgres/replication-slots.ts';

export interface SlotWatch {
  readonly slot: SlotState | null;
  readonly warning: string | null;
}

const EVERY_MS = 10_000;
/** Until there is a slot. */
const FIRST_MS = 1000;

/**
 * Looks at the slot every few seconds, and warns while there is still time: a slot that is not read from keeps log until
 * the server's disk is full, or is lost at `max_slot_wal_keep_size`.
 */
export function startSlotWatch(options: {
  readonly connection: ConnectionSettings;
  readonly slot: string;
  readonly note: TellNote;
  readonly signal: AbortSignal;
}): { current(): SlotWatch; readonly ended: Promise<void> } {
  let current: SlotWatch = { slot: null, warning: null };
  const look = async (client: Session): Promise<void> => {
    const slot = await readSlot(client, options.slot, options.signal);
    const warning = slot === null ? null : slotWarning(slot, await freeBytesOfLog(client));
    // Once for each state, not with every new figure.
    if (warning !== null && current.warning === null)
      options.note('warning', warning, { topic: 'slot', slot: options.slot, ...numbersOf(slot) });
    current = { slot, warning };
  };
  const run = async (): Promise<void> => {
    let client: Session | null = null;
    while (!options.signal.aborted) {
      try {
        client ??= await connect(options.connection, {
          applicationName: 'aishell agent',
          signal: options.signal,
        });
        await look(client);
      } catch {
        // A server that is down says so where the log is streamed.
        client?.end().catch(() => undefined);
        client = null;
      }
      const everyMs = current.slot === null ? FIRST_MS : EVERY_MS;
      await delay(everyMs, options.signal).catch(() => undefined);
    }
    await client?.end().catch(() => undefined);
  };
  return { current: () => current, ended: run() };
}

/** What is to be feared of a slot; null when nothing is. `freeBytes`: on the server's disk, null when that is not known. */
export function slotWarning(slot: SlotState, freeBytes: number | null): string | null {
  const { name, retainedBytes, limitBytes, walStatus } = slot;
  const kept = retainedBytes ?? 0;
  if (walStatus === 'lost')
    return `replication slot '${name}' is lost: the server has removed log that was not received`;
  if (walStatus === 'unreserved')
    return `replication slot '${name}' is about to be lost: the server keeps ${formatBytes(kept)} for it, more than max_slot_wal_keep_size allows`;
  if (limitBytes !== null && kept > limitBytes / 2)
    return `the server keeps ${formatBytes(kept)} of log for replication slot '${name}'; beyond max_slot_wal_keep_size = ${formatBytes(limitBytes)} it is lost`;
  if (freeBytes !== null && kept > freeBytes)
    return `the server keeps ${formatBytes(kept)} of log for replication slot '${name}', and its disk has ${formatBytes(freeBytes)} left; set max_slot_wal_keep_size, or drop the slot if this agent will not come back`;
  return null;
}

/** Null when the server is not on this machine, or does not say where its log is. */
async function freeBytesOfLog(client: Session): Promise<number | null> {
  try {
    const row = await queryRow<{ directory: string; local: boolean }>(client, 'look at the data directory', {
      text: `select current_setting('data_directory') as directory,
               inet_client_addr() is null or inet_client_addr() = inet_server_addr() as local`,
    });
    if (!row.local) return null;
    const { bavail, bsize } = await statfs(join(row.directory, 'pg_wal'));
    return bavail * bsize;
  } catch {
    return null;
  }
}

function numbersOf(slot: SlotState | null): Record<string, unknown> {
  return {
    retainedBytes: slot?.retainedBytes ?? null,
    limitBytes: slot?.limitBytes ?? null,
    walStatus: slot?.walStatus ?? null,
  };
}
