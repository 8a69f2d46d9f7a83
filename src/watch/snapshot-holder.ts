import { delay } from '../base/abort.ts';
import { connect } from '../engines/postgres/connection.ts';
import type { ConnectionSettings } from '../engines/postgres/connection-target.ts';
import { adoptSnapshot, holderName, readLogEnd } from '../engines/postgres/snapshot-holders.ts';

export interface SnapshotHolderOptions {
  readonly connection: ConnectionSettings;
  readonly incident: string;
  readonly database: string;
  /** As the agent has exported it. */
  readonly snapshot: string;
  readonly until: Date;
  /** So much log may be written meanwhile. */
  readonly limitBytes: number;
  /** What the snapshot is called from now on. */
  readonly report: (name: string) => void;
}

const LOOK_MS = 2000;

/**
 * Holds a snapshot in a process of its own, which outlives the agent that begins it: until its session is ended, by whoever
 * resolves the incident, or its time is over, or more was written than it may keep vacuum from. It needs nobody for that.
 *
 * @throws as connect; DATABASE_FAILED the snapshot is gone
 */
export async function runSnapshotHolder(options: SnapshotHolderOptions, signal: AbortSignal): Promise<void> {
  const { connection, incident, database, snapshot, until, limitBytes, report } = options;
  const session = await connect(connection, { database, applicationName: holderName(incident), signal });
  const lost = new AbortController();
  session.once('end', () => lost.abort());
  const over = AbortSignal.any([signal, lost.signal]);
  try {
    report(await adoptSnapshot(session, snapshot));
    const from = await readLogEnd(session);
    while (Date.now() < until.getTime() && Number((await readLogEnd(session)) - from) <= limitBytes)
      await delay(Math.min(LOOK_MS, Math.max(1, until.getTime() - Date.now())), over);
  } catch (error) {
    // Ended by somebody, which is what it waits for, or told to end.
    if (!over.aborted) throw error;
  } finally {
    await session.end().catch(() => undefined);
  }
}
