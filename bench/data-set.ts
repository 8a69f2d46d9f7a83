import { existsSync } from 'node:fs';
import { chown, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type pg from 'pg';
import { formatBytes } from '../src/base/sizes.ts';
import { createDataDirectory, type ServerPlace, startServer } from './server.ts';

/**
 * Tables as an application has them: pgbench's own (its filler packs twelve times), people, prose (packs about three
 * times), events in jsonb, and sessions under random uuids (which hardly pack), with indexes on all of them.
 */
const SCHEMA = `
  create table pgbench_accounts (aid bigint primary key, bid int not null, abalance int, filler char(84));
  create table pgbench_history (tid int, bid int, aid bigint, delta int, mtime timestamp, filler char(22));
  create table users (id bigint primary key, email text not null, name text, country char(2), balance numeric(12,2),
    created_at timestamptz);
  create index on users (email);
  create table documents (id bigint primary key, author bigint, title text, body text);
  create table events (id bigint primary key, at timestamptz, payload jsonb);
  create index on events using gin (payload jsonb_path_ops);
  create table sessions (id uuid primary key, user_id bigint, token bytea, seen_at timestamptz);
  -- Prose is drawn from these: enough of them that one hardly comes twice within what a compressor looks back on.
  create table sentences (id int primary key, body text);
  insert into sentences
    select id, string_agg(word, ' ') from (
      select id, substr(md5((floor(4000 * random() ^ 3))::text), 1, 2 + (random() * 8)::int) as word
      from generate_series(1, 200000) id, generate_series(1, 12)) words
    group by id;
  analyze sentences;`;

/** One batch, number :batch, of :rows rows in the largest table; about 60 MB for 100,000. */
const BATCH: readonly string[] = [
  `insert into pgbench_accounts
     select id, id / 100000, (random() * 10000)::int, '' from generate_series(:batch::bigint * :rows, (:batch + 1) * :rows - 1) id`,
  `insert into pgbench_history
     select (random() * 100)::int, 1, (random() * 1e6)::int, (random() * 10000 - 5000)::int,
       timestamp '2026-01-01' + (:batch * :rows + n) * interval '7 milliseconds', ''
     from generate_series(0, :rows - 1) n`,
  `insert into users
     select id, 'user' || id || '.' || substr(md5(id::text), 1, 6) || '@example.com',
       initcap(substr(md5((id * 7)::text), 1, 7)) || ' ' || initcap(substr(md5((id % 5000)::text), 1, 9)),
       (array['DE','FR','US','GB','JP','BR','IN','NL'])[1 + id % 8], (random() * 10000)::numeric(12,2),
       timestamptz '2020-01-01' + id * interval '31 seconds'
     from generate_series(:batch::bigint * :rows / 2, (:batch + 1) * :rows / 2 - 1) id`,
  `insert into documents
     select d.id, min(d.author), initcap(min(s.body)), string_agg(s.body, '. ')
     from (select :batch::bigint * :rows / 4 + n / 5 as id, (random() * 1e6)::int as author, 1 + (random() * 199998)::int as s
           from generate_series(0, :rows * 5 / 4 - 1) n) d join sentences s on s.id = d.s
     group by d.id`,
  `insert into events
     select id, timestamptz '2026-01-01' + id * interval '13 milliseconds', jsonb_build_object(
       'type', (array['view','click','order','refund','login','search'])[1 + (random() * 5)::int],
       'user', (random() * 1e6)::int, 'path', '/shop/' || (random() * 5000)::int, 'ms', round((random() * 900)::numeric, 2),
       'items', jsonb_build_array((random() * 1e5)::int, (random() * 1e5)::int), 'trace', md5(random()::text))
     from generate_series(:batch::bigint * :rows / 2, (:batch + 1) * :rows / 2 - 1) id`,
  `insert into sessions
     select gen_random_uuid(), (random() * 1e6)::int, decode(md5(random()::text), 'hex'), now()
     from generate_series(1, :rows / 2)`,
];
const BATCH_ROWS = 100_000;

/** The data directory of that size; made once, then kept. The server is stopped, with everything on disk. */
export async function prepareDataSet(
  place: ServerPlace,
  sizeBytes: number,
  say: (line: string) => void,
): Promise<void> {
  const directory = dirname(place.dataDirectory);
  const marker = join(directory, 'complete');
  if (existsSync(marker)) return;
  say(`generating ${formatBytes(sizeBytes)} on PostgreSQL ${place.binaries.version}`);
  await mkdir(directory, { recursive: true });
  if (place.user !== null) await chown(directory, place.user.uid, place.user.gid);
  await createDataDirectory(place);
  const startedAt = performance.now();
  {
    await using server = await startServer(place, {
      fsync: 'off',
      synchronous_commit: 'off',
      full_page_writes: 'off',
      wal_level: 'minimal',
      max_wal_senders: 0,
      max_wal_size: '8GB',
      checkpoint_timeout: '1h',
      shared_buffers: '1GB',
      autovacuum: 'off',
    });
    const client = await server.connect();
    await client.query('select setseed(0.42)');
    await client.query(SCHEMA);
    await fill(client, sizeBytes, say);
    await client.query('vacuum (analyze)');
    await client.query('checkpoint');
    await client.end();
  }
  await writeFile(marker, `${new Date().toISOString()}\n`);
  say(`generated in ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
}

async function fill(client: pg.Client, sizeBytes: number, say: (line: string) => void): Promise<void> {
  for (let batch = 0; ; batch += 1) {
    const { rows } = await client.query<{ size: string }>(
      'select sum(pg_database_size(oid))::text as size from pg_database',
    );
    const size = Number(rows[0]?.size);
    if (batch > 0 && size >= sizeBytes) return;
    if (batch % 10 === 0) say(`  ${formatBytes(size)}`);
    for (const sql of BATCH) {
      await client.query(sql.replaceAll(':batch', String(batch)).replaceAll(':rows', String(BATCH_ROWS)));
    }
  }
}
