import pg from 'pg';
import type { TestCluster } from './postgres.ts';

interface TrafficCounts {
  /** Transactions whose COMMIT was answered. */
  readonly committed: number;
  /** Transactions whose COMMIT was sent and not answered: they may have happened. */
  readonly unknown: number;
}

export interface Traffic {
  /** So far. */
  counts(): TrafficCounts;
  /** Resolves when this many more transactions were committed; rejects when the traffic ended. */
  progress(more: number): Promise<void>;
  /** Lets the transactions in flight finish; fine when the server was stopped or killed. */
  stop(): Promise<TrafficCounts>;
}

const ACCOUNTS = 10_000;

const SCHEMA = `
  create table if not exists accounts (id int primary key, balance bigint not null, filler text not null);
  create table if not exists history (
    client int not null, seq bigint not null, account int not null references accounts, delta int not null,
    at timestamptz not null default clock_timestamp(), primary key (client, seq));
  create table if not exists orders (
    id bigint generated always as identity primary key, account int not null references accounts,
    status text not null, items jsonb not null);
  create index if not exists orders_account on orders (account);
  insert into accounts select n, 1000, repeat('x', 80) from generate_series(1, ${ACCOUNTS}) n on conflict do nothing;`;

/**
 * Writers as in pgbench: each transaction updates an account (and now and then an order) and inserts a history row and
 * an order. Every transaction adds exactly one row to `history` and one to `orders`, and the sum of `accounts.balance`
 * is that of `history.delta` plus 1,000 for each account: what a restored copy is checked against.
 */
export async function loadTraffic(
  cluster: TestCluster,
  options: { readonly clients: number; readonly database?: string },
): Promise<Traffic> {
  const setup = await cluster.connect(options.database);
  await setup.query(SCHEMA);
  const { rows } = await setup.query<{ client: number }>(
    'select coalesce(max(client) + 1, 0) as client from history',
  );
  await setup.end();
  const first = rows[0]?.client ?? 0;

  const total = { committed: 0, unknown: 0 };
  let stopping = false;
  const writers = Array.from({ length: options.clients }, async (_, n) => {
    const client = new pg.Client({ ...cluster.connection, database: options.database ?? 'postgres' });
    client.on('error', () => undefined);
    await client.connect();
    for (let seq = 0; !stopping; seq += 1) {
      let commitSent = false;
      try {
        await writeOrder(client, first + n, seq);
        commitSent = true;
        await client.query('commit');
        total.committed += 1;
      } catch {
        // The server was stopped or killed under us, as tests do: a writer ends there.
        if (commitSent) total.unknown += 1;
        break;
      }
    }
    await client.end().catch(() => undefined);
  });
  const ended = Promise.all(writers);
  let over = false;
  void ended.finally(() => {
    over = true;
  });

  return {
    counts: () => ({ ...total }),
    progress: async more => {
      const goal = total.committed + more;
      while (total.committed < goal) {
        if (over) throw new Error(`the traffic ended after ${total.committed} transactions`);
        await new Promise(resolve => setTimeout(resolve, 5));
      }
    },
    stop: async () => {
      stopping = true;
      await ended;
      return { ...total };
    },
  };
}

async function writeOrder(client: pg.Client, number: number, seq: number): Promise<void> {
  // Ascending within each client's own stripe of accounts would never block; a random account sometimes does, as in life.
  const account = 1 + Math.floor(Math.random() * ACCOUNTS);
  const delta = Math.floor(Math.random() * 1000) - 500;
  await client.query('begin');
  await client.query('update accounts set balance = balance + $2 where id = $1', [account, delta]);
  await client.query('insert into history (client, seq, account, delta) values ($1, $2, $3, $4)', [
    number,
    seq,
    account,
    delta,
  ]);
  await client.query("insert into orders (account, status, items) values ($1, 'new', $2)", [
    account,
    JSON.stringify([{ sku: `sku-${seq % 977}`, count: (seq % 7) + 1, note: 'x'.repeat(seq % 200) }]),
  ]);
  if (seq % 10 === 9) {
    await client.query("update orders set status = 'sent' where account = $1 and status = 'new'", [account]);
  }
}
