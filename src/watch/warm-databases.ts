import { type DatabaseSessions, MOST_READY } from './database-sessions.ts';
import type { LiveTables } from './live-tables.ts';
import type { OpenTransaction } from './open-transaction.ts';

const MINUTE_MS = 60_000;

/** Keeps sessions ready where something changes, and from the start where most could be lost. */
export class WarmDatabases {
  readonly #sessions: DatabaseSessions;
  readonly #tables: LiveTables;
  /** Databases that have changed in this minute. */
  readonly #changed = new Set<number>();
  #minute = 0;

  constructor(sessions: DatabaseSessions, tables: LiveTables) {
    this.#sessions = sessions;
    this.#tables = tables;
  }

  begin(): void {
    for (const name of this.#tables.largestDatabases().slice(0, MOST_READY).reverse())
      this.#sessions.warmUp(name);
  }

  see(transaction: OpenTransaction): void {
    const minute = Math.floor(performance.now() / MINUTE_MS);
    if (minute !== this.#minute) this.#changed.clear();
    this.#minute = minute;
    for (const { relation } of transaction.totals.values()) {
      const { database } = relation;
      if (database === 0 || this.#changed.has(database)) continue;
      const name = this.#tables.databaseName(database);
      if (name === null) continue;
      this.#changed.add(database);
      this.#sessions.warmUp(name);
    }
  }
}
