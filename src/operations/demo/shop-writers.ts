import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Session } from './shop.ts';

interface WriterCounts {
  /** Sales that were committed. */
  readonly committed: number;
  /** Sales without an order, because the customer was gone. */
  readonly withoutCustomer: number;
}

/** The demo's application: some connections that sell products to users, one transaction after the other. */
export interface ShopWriters {
  counts(): WriterCounts;
  /** Resolves when no transaction is in flight; none begins until `resume`. */
  pause(): Promise<void>;
  /** Writers go on as long as their connection lives, and do not come back before `resume`. */
  holdReconnects(): void;
  resume(): void;
  /** From the last sale before `resume` to the first one after it, in milliseconds; null until then. */
  outageMs(): number | null;
  stop(): Promise<void>;
}

/** One statement: the stock goes down in any case, the order is only written when the customer is there. */
const SALE = `
  with sold as (update products set stock = stock - 1 where id = $2 returning id, price)
  insert into orders (user_id, product_id, amount)
  select users.id, sold.id, sold.price from users, sold where users.id = $1`;

export function startShopWriters(options: {
  readonly writers: number;
  readonly users: number;
  readonly products: number;
  readonly connect: () => Promise<Session>;
}): ShopWriters {
  const app = new Application();
  const loops = Array.from({ length: options.writers }, () => runWriter(app, options));
  return {
    counts: () => ({ committed: app.committed, withoutCustomer: app.withoutCustomer }),
    pause: async () => {
      app.close();
      while (app.inFlight > 0) await sleep(1);
    },
    holdReconnects: () => {
      app.reconnect = false;
    },
    resume: () => app.open(),
    outageMs: () => app.outageMs,
    stop: async () => {
      app.stopped = true;
      app.open();
      await Promise.all(loops);
    },
  };
}

/** What all writers share. */
class Application {
  stopped = false;
  reconnect = true;
  inFlight = 0;
  committed = 0;
  withoutCustomer = 0;
  lastCommitMs = performance.now();
  outageMs: number | null = null;
  #opened: PromiseWithResolvers<void> | null = null;

  close(): void {
    this.#opened ??= Promise.withResolvers();
  }

  open(): void {
    this.reconnect = true;
    this.outageMs = null;
    this.#opened?.resolve();
    this.#opened = null;
  }

  /** null while it is open: whether to wait is decided without giving others a turn. */
  get gate(): Promise<void> | null {
    return this.#opened?.promise ?? null;
  }

  countCommit(orders: number): void {
    const now = performance.now();
    this.outageMs ??= now - this.lastCommitMs;
    this.lastCommitMs = now;
    this.committed += 1;
    if (orders === 0) this.withoutCustomer += 1;
  }
}

async function runWriter(app: Application, options: Parameters<typeof startShopWriters>[0]): Promise<void> {
  let session: Session | null = null;
  while (!app.stopped) {
    if (app.gate !== null) {
      await app.gate;
      continue;
    }
    if (session === null) {
      session = app.reconnect ? await options.connect().catch(() => null) : null;
      if (session === null) await sleep(20);
      continue;
    }
    app.inFlight += 1;
    try {
      const values = [randomInt(1, options.users + 1), randomInt(1, options.products + 1)];
      const { rowCount } = await session.query(SALE, values);
      app.countCommit(rowCount ?? 0);
    } catch (error) {
      // The customer was deleted while the order was written: a foreign key refused it, and the connection lives on.
      if (!isForeignKeyViolation(error)) {
        await session.end().catch(() => undefined);
        session = null;
      }
    } finally {
      app.inFlight -= 1;
    }
    // An application thinks between two sales, and the machine has other things to do as well.
    await sleep(2);
  }
  await session?.end().catch(() => undefined);
}

function isForeignKeyViolation(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === '23503';
}
