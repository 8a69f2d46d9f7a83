import type { Session } from '../engines/postgres/connection.ts';

/** A session that is opened ahead, so that whoever needs it need not wait, and again when it was lost. */
export class KeptSession {
  readonly #open: () => Promise<Session>;
  #opening: Promise<Session> | null = null;
  /** One after the other: a session does one thing at a time. */
  #last: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(open: () => Promise<Session>) {
    this.#open = open;
  }

  /** Does something in the session that leaves nothing behind. @throws as connect, and what `work` throws */
  async use<T>(work: (client: Session) => Promise<T>): Promise<T> {
    const done = this.#last.then(async () => work(await this.#client()));
    this.#last = done.catch(() => undefined);
    return await done;
  }

  /** Opens it now; what stands in the way is found by whoever needs it. */
  warmUp(): void {
    if (!this.#isClosed) void this.#client().catch(() => undefined);
  }

  /** Gives the session away for good, and opens another. @throws as connect */
  async take(): Promise<Session> {
    const taken = this.#client();
    this.#opening = null;
    const client = await taken;
    this.warmUp();
    return client;
  }

  close(): void {
    this.#isClosed = true;
    const opening = this.#opening;
    this.#opening = null;
    void opening?.then(client => client.end()).catch(() => undefined);
  }

  async #client(): Promise<Session> {
    this.#opening ??= this.#start();
    return await this.#opening;
  }

  #start(): Promise<Session> {
    const opening = this.#open();
    const forget = (): void => {
      if (this.#opening === opening) this.#opening = null;
    };
    opening.then(client => client.once('end', forget), forget);
    return opening;
  }
}
