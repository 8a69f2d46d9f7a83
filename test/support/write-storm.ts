import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { TestCluster } from './postgres.ts';

export type StormKind = 'app' | 'superuser' | 'evil' | 'reader';

/** Applications that never give up: they connect again and go on. Every write is a row of `storm` with its own time. */
export interface Storm {
  /** Resolves when every client has had this many more answers. */
  warm(answers?: number): Promise<void>;
  /** Answered statements of a kind since `at` (`Date.now()`). */
  answered(kind: StormKind, at: number): number;
  stop(): Promise<void>;
}

/** Roles and tables; in a database of its own, as applications have. */
export async function prepareStorm(cluster: TestCluster): Promise<void> {
  await cluster.query('create role app login');
  await cluster.query('create database shop owner app');
  const admin = await cluster.connect('shop');
  await admin.query(`
    create table storm (id bigint generated always as identity primary key, kind text not null, client int not null,
                        at timestamptz not null default clock_timestamp());
    grant select, insert on storm to app; grant usage on all sequences in schema public to app`);
  await admin.end();
}

/**
 * `writers` applications insert a row every few milliseconds, and beside them a superuser, an evil one that says in every
 * session that it wants to write, and a reader.
 */
export async function startStorm(cluster: TestCluster, writers: number): Promise<Storm> {
  let stopping = false;
  const answers = new Map<string, number[]>();
  const run = async (kind: StormKind, number: number): Promise<void> => {
    const times: number[] = [];
    answers.set(`${kind} ${number}`, times);
    const user = kind === 'superuser' ? 'postgres' : 'app';
    while (!stopping) {
      const client = new pg.Client({
        ...{ ...cluster.connection, user, database: 'shop', application_name: kind },
        connectionTimeoutMillis: 5000,
      });
      client.on('error', () => undefined);
      try {
        await client.connect();
        if (kind === 'evil') await client.query('set default_transaction_read_only = off');
        while (!stopping) {
          if (kind === 'reader') await client.query('select count(*) from pg_class');
          else await write(client, kind, number);
          times.push(Date.now());
          await sleep(5);
        }
      } catch {
        await sleep(20);
      } finally {
        await client.end().catch(() => undefined);
      }
    }
  };
  const clients = [
    ...Array.from({ length: writers }, (_, number) => run('app', number)),
    run('superuser', 0),
    run('evil', 0),
    run('reader', 0),
  ];
  return {
    async warm(more = 5) {
      const goals = new Map([...answers].map(([name, times]) => [name, times.length + more]));
      const deadline = Date.now() + 60_000;
      while ([...goals].some(([name, goal]) => (answers.get(name)?.length ?? 0) < goal)) {
        if (Date.now() > deadline) throw new Error('the storm does not get going');
        await sleep(10);
      }
    },
    answered: (kind, at) =>
      [...answers]
        .filter(([name]) => name.startsWith(`${kind} `))
        .reduce((sum, [, times]) => sum + times.filter(time => time > at).length, 0),
    async stop() {
      stopping = true;
      await Promise.all(clients);
    },
  };
}

async function write(client: pg.Client, kind: StormKind, number: number): Promise<void> {
  // In several steps, as applications do: its transaction is open for long enough to be seen.
  if (kind === 'evil') await client.query('begin');
  await client.query('insert into storm (kind, client) values ($1, $2)', [kind, number]);
  if (kind === 'evil') await client.query('commit');
}

/** Rows that were written between two times of this machine's clock, which is the server's too. */
export async function writtenBetween(
  cluster: TestCluster,
  from: number,
  to: number,
): Promise<Record<string, number>> {
  const client = await cluster.connect('shop');
  const { rows } = await client.query<{ kind: string; count: number }>(
    `select kind, count(*)::int from storm
     where at > to_timestamp($1::float8 / 1000) and at < to_timestamp($2::float8 / 1000) group by kind`,
    [from, to],
  );
  await client.end();
  return Object.fromEntries(rows.map(({ kind, count }) => [kind, count]));
}
