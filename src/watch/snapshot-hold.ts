import type { Session } from '../engines/postgres/connection.ts';
import { type ExportedSnapshot, exportSnapshot, seesBefore } from '../engines/postgres/transaction-owner.ts';
import type { HeldSnapshot } from '../operations/incident/incident.ts';
import type { DatabaseSessions } from './database-sessions.ts';

/** A snapshot that is kept. */
export interface Hold {
  readonly until: Date;
  readonly isOver: boolean;
  /** As the incident tells of it. */
  readonly record: HeldSnapshot;
  /** A process of its own holds it, which goes on when the agent ends. */
  readonly outlivesAgent: boolean;
  /** Whether it sees the state before a transaction. `xid`: 32 bits. */
  seesBefore(xid: number): boolean;
  /** Lets go of it; the session ends, and vacuum goes on. */
  release(): void;
}

/** A snapshot in a session of the agent's own. */
export class SnapshotHold implements Hold {
  readonly outlivesAgent = false;
  readonly snapshot: ExportedSnapshot;
  readonly database: string;
  readonly since = new Date();
  readonly until: Date;
  readonly #client: Session;
  #released: Date | null = null;

  constructor(held: {
    readonly client: Session;
    readonly snapshot: ExportedSnapshot;
    readonly database: string;
    readonly forMs: number;
    /** The session was lost, and the snapshot with it. */
    readonly onLost: (hold: SnapshotHold) => void;
  }) {
    const { client, snapshot, database, forMs, onLost } = held;
    this.#client = client;
    this.snapshot = snapshot;
    this.database = database;
    this.until = new Date(this.since.getTime() + forMs);
    client.once('end', () => {
      if (this.#released !== null) return;
      this.#released = new Date();
      onLost(this);
    });
  }

  get isOver(): boolean {
    return this.#released !== null;
  }

  get record(): HeldSnapshot {
    return {
      name: this.snapshot.name,
      database: this.database,
      heldSince: this.since.toISOString(),
      heldUntil: this.until.toISOString(),
      releasedAt: this.#released?.toISOString() ?? null,
    };
  }

  seesBefore(xid: number): boolean {
    return seesBefore(this.snapshot, xid);
  }

  release(): void {
    if (this.#released !== null) return;
    this.#released = new Date();
    this.#client.end().catch(() => undefined);
  }
}

/**
 * Begins to hold what a database looks like now.
 *
 * @throws DATABASE_UNREACHABLE DATABASE_DENIED DATABASE_FAILED
 */
export async function holdSnapshot(
  sessions: DatabaseSessions,
  options: {
    readonly database: string;
    readonly forMs: number;
    readonly onLost: (hold: SnapshotHold) => void;
  },
): Promise<SnapshotHold> {
  const client = await sessions.takeForHold(options.database);
  try {
    const snapshot = await exportSnapshot(client);
    return new SnapshotHold({ client, snapshot, ...options });
  } catch (error) {
    await client.end().catch(() => undefined);
    throw error;
  }
}
