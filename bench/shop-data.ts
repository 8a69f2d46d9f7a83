import { existsSync } from 'node:fs';
import { chown, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type pg from 'pg';
import { formatBytes } from '../src/base/sizes.ts';
import { createDataDirectory, type RunningServer, type ServerPlace, startServer } from './server.ts';

/** The tutorial's shop: pgbench's tables at scale 270 and 3,214,567 users, which together take about 5 GB. */
const FULL = { sizeBytes: 5e9, scale: 270, users: 3_214_567 };

export interface Shop {
  /** pgbench's: 100,000 accounts each. */
  readonly scale: number;
  readonly users: number;
}

/** How large a shop of that size is. */
export function shopOf(sizeBytes: number): Shop {
  const factor = sizeBytes / FULL.sizeBytes;
  return { scale: Math.max(1, Math.round(FULL.scale * factor)), users: Math.round(FULL.users * factor) };
}

/** As `pgbench -i` makes them, so that its own program, where there is one, could go on with them. */
const SCHEMA = `
  create table pgbench_branches (bid int not null, bbalance int, filler char(88)) with (fillfactor = 100);
  create table pgbench_tellers (tid int not null, bid int, tbalance int, filler char(84)) with (fillfactor = 100);
  create table pgbench_accounts (aid int not null, bid int, abalance int, filler char(84)) with (fillfactor = 100);
  create table pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
  create table users (id bigint primary key, email text not null, name text, country char(2), balance numeric(12,2),
    created_at timestamptz);
  create index on users (email);`;
const KEYS = `
  alter table pgbench_branches add primary key (bid);
  alter table pgbench_tellers add primary key (tid);
  alter table pgbench_accounts add primary key (aid);`;

/** pgbench's own transaction, over and over, each with its own commit; as many as it takes to write so much log. */
const TRAFFIC = `
  create or replace procedure traffic(scale int, log_bytes bigint) language plpgsql as $$
  declare
    until pg_lsn := pg_current_wal_lsn() + log_bytes;
    account int; teller int; branch int; amount int;
  begin
    while pg_current_wal_lsn() < until loop
      for step in 1..100 loop
        account := 1 + floor(random() * 100000 * scale); teller := 1 + floor(random() * 10 * scale);
        branch := 1 + floor(random() * scale); amount := (random() * 10000 - 5000)::int;
        update pgbench_accounts set abalance = abalance + amount where aid = account;
        update pgbench_tellers set tbalance = tbalance + amount where tid = teller;
        update pgbench_branches set bbalance = bbalance + amount where bid = branch;
        insert into pgbench_history values (teller, branch, account, amount, now());
        commit;
      end loop;
    end loop;
  end $$;`;

/** A shop as it was opened, stopped, with everything on disk; made once, then kept. */
export async function prepareShop(
  place: ServerPlace,
  sizeBytes: number,
  say: (line: string) => void,
): Promise<void> {
  const directory = dirname(place.dataDirectory);
  const marker = join(directory, 'complete');
  if (existsSync(marker)) return;
  const { scale, users } = shopOf(sizeBytes);
  say(`generating a shop of ${formatBytes(sizeBytes)} (scale ${scale}, ${users} users)`);
  await mkdir(directory, { recursive: true });
  if (place.user !== null) await chown(directory, place.user.uid, place.user.gid);
  await createDataDirectory(place);
  const startedAt = performance.now();
  {
    await using server = await startServer(place, {
      fsync: 'off',
      full_page_writes: 'off',
      wal_level: 'minimal',
      max_wal_senders: 0,
      max_wal_size: '8GB',
      checkpoint_timeout: '1h',
      shared_buffers: '1GB',
      maintenance_work_mem: '512MB',
      autovacuum: 'off',
    });
    await using client = await clientOf(server);
    await client.run('select setseed(0.42)', SCHEMA, TRAFFIC);
    await client.run(
      `insert into pgbench_branches select id, 0, '' from generate_series(1, ${scale}) id`,
      `insert into pgbench_tellers select id, (id - 1) / 10 + 1, 0, '' from generate_series(1, ${scale * 10}) id`,
      `insert into pgbench_accounts
         select id, (id - 1) / 100000 + 1, 0, '' from generate_series(1, ${scale * 100_000}) id`,
      `insert into users
         select id, 'user' || id || '.' || substr(md5(id::text), 1, 6) || '@example.com',
           initcap(substr(md5((id * 7)::text), 1, 7)) || ' ' || initcap(substr(md5((id % 5000)::text), 1, 9)),
           (array['DE','FR','US','GB','JP','BR','IN','NL'])[1 + id % 8], (random() * 10000)::numeric(12,2),
           timestamptz '2020-01-01' + id * interval '31 seconds'
         from generate_series(1, ${users}) id`,
      KEYS,
      'vacuum (analyze)',
      'checkpoint',
    );
  }
  await writeFile(marker, `${new Date().toISOString()}\n`);
  say(`generated in ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
}

/** Lets the shop's customers write so much log, at least. */
export async function runTraffic(server: RunningServer, scale: number, logBytes: number): Promise<void> {
  await using client = await clientOf(server);
  // A disk's latency at every commit would only make the making longer.
  await client.run('set synchronous_commit = off', `call traffic(${scale}, ${Math.round(logBytes)})`);
}

/** A client for its scope; `run` runs statements one after the other. */
export async function clientOf(server: RunningServer): Promise<
  AsyncDisposable & {
    readonly client: pg.Client;
    run(...statements: readonly string[]): Promise<void>;
    row<T extends pg.QueryResultRow>(sql: string): Promise<T>;
  }
> {
  const client = await server.connect();
  return {
    client,
    async run(...statements) {
      for (const sql of statements) await client.query(sql);
    },
    async row<T extends pg.QueryResultRow>(sql: string) {
      const { rows } = await client.query<T>(sql);
      if (rows[0] === undefined) throw new Error(`no row of ${sql}`);
      return rows[0];
    },
    [Symbol.asyncDispose]: () => client.end(),
  };
}
