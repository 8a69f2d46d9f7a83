import { connect, type Session } from '../engines/postgres/connection.ts';
import type { ConnectionSettings } from '../engines/postgres/connection-target.ts';
import { listLockedDatabases } from '../engines/postgres/live-relations.ts';
import { KeptSession } from './kept-session.ts';

/** As the server lists our sessions; those called aishell are left alone when writes are stopped. */
export const WATCH_NAME = 'aishell watch';

/** So many databases have sessions ready; those that were changed last. */
export const MOST_READY = 8;

/** So long a database that somebody wanted for himself is left alone. */
const YIELD_MS = 30_000;

interface Ready {
  /** For questions. */
  readonly asking: KeptSession;
  /** The next one that will hold a snapshot. */
  readonly holding: KeptSession;
}

/** Sessions of the watch, kept ready: one for the server as a whole, and some in each of the databases that change. */
export class DatabaseSessions {
  readonly #connection: ConnectionSettings;
  readonly #control: KeptSession;
  readonly #ready = new Map<string, Ready>();
  readonly #yielded = new Map<string, number>();
  #isGivingWay = false;

  constructor(connection: ConnectionSettings) {
    this.#connection = connection;
    this.#control = new KeptSession(() => this.open());
    this.#control.warmUp();
  }

  /** A session of its own, for the caller to end. @throws as connect */
  async open(database?: string): Promise<Session> {
    return await connect(this.#connection, {
      applicationName: WATCH_NAME,
      ...(database === undefined ? {} : { database }),
    });
  }

  /** Asks who does what. @throws as connect, and what `work` throws */
  async control<T>(work: (client: Session) => Promise<T>): Promise<T> {
    return await this.#control.use(work);
  }

  /** Asks something in a database. @throws as connect, and what `work` throws */
  async asking<T>(database: string, work: (client: Session) => Promise<T>): Promise<T> {
    return await this.#readyIn(database).asking.use(work);
  }

  /** A session that is the caller's from now on. */
  async takeForHold(database: string): Promise<Session> {
    return await this.#readyIn(database).holding.take();
  }

  /** Something changes in this database: its sessions may be needed. */
  warmUp(database: string): void {
    if ((this.#yielded.get(database) ?? 0) > performance.now()) return;
    const known = this.#ready.get(database);
    if (known !== undefined) {
      // What was changed last goes last.
      this.#ready.delete(database);
      this.#ready.set(database, known);
    }
    const { asking, holding } = this.#readyIn(database);
    asking.warmUp();
    holding.warmUp();
  }

  /**
   * Ends sessions where they are in somebody's way: a database with sessions can be neither dropped, renamed nor copied, for
   * which the server waits five seconds. Those that hold a snapshot stay.
   */
  giveWay(): void {
    if (this.#ready.size === 0 || this.#isGivingWay) return;
    this.#isGivingWay = true;
    void this.#giveWay()
      .catch(() => undefined)
      .finally(() => {
        this.#isGivingWay = false;
      });
  }

  async #giveWay(): Promise<void> {
    for (const name of await this.control(listLockedDatabases)) {
      this.#yielded.set(name, performance.now() + YIELD_MS);
      this.close(name);
    }
  }

  /** Ends the sessions that are ready in a database, or all. */
  close(database?: string): void {
    if (database === undefined) this.#control.close();
    for (const [name, { asking, holding }] of this.#ready) {
      if (database !== undefined && name !== database) continue;
      this.#ready.delete(name);
      asking.close();
      holding.close();
    }
  }

  #readyIn(database: string): Ready {
    let ready = this.#ready.get(database);
    if (ready !== undefined) return ready;
    const open = (): Promise<Session> => this.open(database);
    ready = { asking: new KeptSession(open), holding: new KeptSession(open) };
    this.#ready.set(database, ready);
    const [oldest] = this.#ready.keys();
    if (this.#ready.size > MOST_READY && oldest !== undefined) this.close(oldest);
    return ready;
  }
}
