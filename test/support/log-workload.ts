import { chown, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import type { TestCluster } from './postgres.ts';

/** What a transaction of the workload did, as the server itself says. */
export interface ExpectedTransaction {
  readonly what: string;
  readonly xid: number;
  readonly outcome: 'commit' | 'abort';
  /** `[inserted, updated, deleted]` by the table's file at the time; tables that it does not touch are left out. */
  readonly rows: Readonly<Record<number, readonly [number, number, number]>>;
}

/** The settings that {@link runLogWorkload} needs. */
export const logWorkloadSettings = { max_prepared_transactions: 10, autovacuum: 'off' };

/** Runs a list of statements as one transaction and says which it was. */
async function transaction(
  client: pg.Client,
  statements: readonly string[],
  end = 'commit',
): Promise<number> {
  await client.query('begin');
  for (const statement of statements) await client.query(statement);
  const { rows } = await client.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
  await client.query(end);
  return Number(BigInt(rows[0]!.xid) & 0xffffffffn);
}

async function fileOf(client: pg.Client, relation: string): Promise<number> {
  const { rows } = await client.query<{ file: number }>(
    'select pg_relation_filenode($1::regclass)::int as file',
    [relation],
  );
  return rows[0]!.file;
}

const SCHEMA = `
  create table items (id int primary key, v text, n int[], at point, words tsvector);
  create index items_hash on items using hash (v);
  create index items_gin on items using gin (n);
  create index items_gin_words on items using gin (words);
  create index items_gist on items using gist (at);
  create index items_spgist on items using spgist (at);
  create index items_spgist_text on items using spgist (v);
  create index items_brin on items using brin (id);
  create table plain (id int, v text);
  create unique index plain_id on plain (id);
  create table wide (id int primary key, body text);
  alter table wide alter column body set storage external;
  create table parts (id int, made int) partition by range (made);
  create table parts_1 partition of parts for values from (0) to (100);
  create table parts_2 partition of parts for values from (100) to (200);
  create table held (id int);
  create unlogged table scratch (id int primary key, v text);
  create sequence tickets;`;

/** Everything a log can hold, in transactions whose effects are known exactly. */
export async function runLogWorkload(cluster: TestCluster, version: number): Promise<ExpectedTransaction[]> {
  const client = await cluster.connect();
  await client.query(SCHEMA);
  const expected = [
    ...(await changeRows(cluster, client)),
    ...(await endTransactions(client)),
    ...(await rewriteTables(client)),
  ];
  await changeIndexes(client);
  await client.end();
  await changeStorage(cluster, version);
  return expected;
}

async function changeRows(cluster: TestCluster, client: pg.Client): Promise<ExpectedTransaction[]> {
  const plain = await fileOf(client, 'plain');
  const wide = await fileOf(client, 'wide');
  const parts1 = await fileOf(client, 'parts_1');
  const parts2 = await fileOf(client, 'parts_2');
  const done: ExpectedTransaction[] = [];
  const run = async (
    what: string,
    statements: readonly string[],
    rows: Readonly<Record<number, readonly [number, number, number]>>,
  ): Promise<void> => {
    done.push({ what, xid: await transaction(client, statements), outcome: 'commit', rows });
  };
  const file = join(cluster.directory, 'plain.csv');
  await writeFile(file, Array.from({ length: 5000 }, (_, n) => `${n},copied ${n}\n`).join(''), {
    mode: 0o644,
  });
  await run('copy', [`copy plain from '${file}' csv`], { [plain]: [5000, 0, 0] });
  await run('insert', [`insert into plain select g, 'inserted ' || g from generate_series(5000, 7999) g`], {
    [plain]: [3000, 0, 0],
  });
  await run('update', ['update plain set v = v where id < 1000'], { [plain]: [0, 1000, 0] });
  await run('update of the key', ['update plain set id = -id where id between 1 and 10'], {
    [plain]: [0, 10, 0],
  });
  await run('delete', ['delete from plain where id between 2000 and 2499'], { [plain]: [0, 0, 500] });
  await run(
    'insert on conflict',
    [`insert into plain select g, 'again' from generate_series(7980, 8029) g on conflict do nothing`],
    { [plain]: [30, 0, 0] },
  );
  await run(
    'upsert',
    [
      `insert into plain select g, 'new' from generate_series(8020, 8039) g on conflict (id) do update set v = 'old'`,
    ],
    { [plain]: [10, 10, 0] },
  );
  await run('into partitions', ['insert into parts select g, g * 2 from generate_series(0, 99) g'], {
    [parts1]: [50, 0, 0],
    [parts2]: [50, 0, 0],
  });
  await run('between partitions', ['update parts set made = made + 100 where id < 5'], {
    [parts1]: [0, 0, 5],
    [parts2]: [5, 0, 0],
  });
  await run('toast', [`insert into wide select g, repeat(md5(g::text), 300) from generate_series(1, 10) g`], {
    [wide]: [10, 0, 0],
  });
  await run('toast deleted', ['delete from wide where id <= 4'], { [wide]: [0, 0, 4] });
  await run(
    'rows locked',
    ['select * from plain where id < 50 for update', 'update plain set v = v where id = 60'],
    { [plain]: [0, 1, 0] },
  );
  return done;
}

async function endTransactions(client: pg.Client): Promise<ExpectedTransaction[]> {
  const plain = await fileOf(client, 'plain');
  const insert = (from: number, count: number): string =>
    `insert into plain select g, 'x' from generate_series(${from}, ${from + count - 1}) g`;
  const done: ExpectedTransaction[] = [];
  const add = (what: string, xid: number, outcome: 'commit' | 'abort', inserted: number): void => {
    done.push({ what, xid, outcome, rows: { [plain]: [inserted, 0, 0] } });
  };
  add(
    'savepoints',
    await transaction(client, [
      insert(20_000, 10),
      'savepoint a',
      insert(20_100, 20),
      'rollback to a',
      'savepoint b',
      insert(20_200, 30),
      'savepoint c',
      insert(20_300, 5),
      'release b',
    ]),
    'commit',
    45,
  );
  add('rolled back', await transaction(client, [insert(21_000, 2000)], 'rollback'), 'abort', 2000);
  const many = `do $$ begin for i in 1..300 loop
    begin insert into plain values (30000 + i, 'sub'); exception when others then null; end; end loop; end $$`;
  add('300 subtransactions', await transaction(client, [insert(29_000, 1), many]), 'commit', 301);
  const failing = `do $$ begin for i in 1..100 loop
    begin insert into plain values (40000 + i, 'sub');
      if i % 4 = 0 then raise 'no'; end if; exception when raise_exception then null; end; end loop; end $$`;
  add('subtransactions, every fourth fails', await transaction(client, [failing]), 'commit', 75);
  add(
    'prepared',
    await transaction(
      client,
      [insert(50_000, 7), 'savepoint a', insert(50_100, 3)],
      `prepare transaction 'one'`,
    ),
    'commit',
    10,
  );
  add(
    'prepared, rolled back',
    await transaction(client, [insert(51_000, 11)], `prepare transaction 'two'`),
    'abort',
    11,
  );
  await client.query('insert into plain values (52000)');
  await client.query(`commit prepared 'one'`);
  await client.query(`rollback prepared 'two'`);
  // A table of its own: it stays locked.
  await transaction(client, ['insert into held values (1), (2), (3)'], `prepare transaction 'forgotten'`);
  return done;
}

async function rewriteTables(client: pg.Client): Promise<ExpectedTransaction[]> {
  await client.query(
    `create table gone as select g as id, md5(g::text) as v from generate_series(1, 20000) g`,
  );
  await client.query('create index on gone (v)');
  const before = await fileOf(client, 'gone');
  const done: ExpectedTransaction[] = [
    {
      what: 'deleted before the truncation',
      xid: await transaction(client, ['delete from gone where id > 5000']),
      outcome: 'commit',
      rows: { [before]: [0, 0, 15_000] },
    },
  ];
  // Cuts the table's end off.
  await client.query('vacuum (truncate on) gone');
  await client.query('cluster gone using gone_v_idx');
  await client.query('vacuum full gone');
  await client.query('alter table gone add column w int not null default (random() * 9)::int');
  const rewritten = await fileOf(client, 'gone');
  done.push({
    what: 'filled and truncated',
    xid: await transaction(client, [
      `insert into gone select g, 'x' from generate_series(1, 50) g`,
      'truncate gone',
    ]),
    outcome: 'commit',
    rows: { [rewritten]: [50, 0, 0] },
  });
  await client.query('drop table gone');
  await transaction(client, ['create table never as select 1 as a'], 'rollback');
  return done;
}

async function changeIndexes(client: pg.Client): Promise<void> {
  const fill = (from: number, to: number): string => `insert into items
    select g, repeat(md5(g::text), 3), array[g, g % 7], point(g % 100, g), to_tsvector('simple', 'w' || g % 50 || ' o' || g)
    from generate_series(${from}, ${to}) g`;
  for (const statement of [
    fill(1, 3000),
    'checkpoint',
    fill(3001, 5000),
    'update items set v = v || id, n = n || id where id % 3 = 0',
    'delete from items where id % 5 = 0',
    'vacuum items',
    'delete from items where id > 2500',
    'vacuum (freeze) items',
    'reindex table items',
    'select brin_summarize_new_values($$items_brin$$)',
    `insert into scratch select g, 'x' from generate_series(1, 500) g`,
    `select nextval('tickets') from generate_series(1, 100)`,
    `select pg_logical_emit_message(true, 'big', string_agg(gen_random_uuid()::text, '')) from generate_series(1, 60000)`,
    `select pg_logical_emit_message(false, 'x', repeat('y', 100)) from generate_series(1, 100)`,
  ]) {
    await client.query(statement);
  }
}

/** Databases and tablespaces come and go. */
async function changeStorage(cluster: TestCluster, version: number): Promise<void> {
  const place = join(cluster.directory, 'other place');
  await mkdir(place);
  if (cluster.user !== null) await chown(place, cluster.user.uid, cluster.user.gid);
  const client = await cluster.connect();
  await client.query(`create tablespace other location '${place}'`);
  await client.query(`create table placed (id int primary key) tablespace other`);
  await client.query('insert into placed select generate_series(1, 1000)');
  await client.query('alter table plain set tablespace other');
  await client.query('create database second');
  if (version >= 15) {
    await client.query('create database copied template second strategy file_copy');
    await client.query('create database logged strategy wal_log tablespace other');
    await client.query('drop database logged');
  } else {
    await client.query('create database copied template second');
  }
  const second = await cluster.connect('second');
  await second.query('create table t (id int primary key); insert into t select generate_series(1, 2000)');
  await second.end();
  await client.query('alter database second set tablespace other');
  await client.query('drop database copied');
  await client.query('alter database second set tablespace pg_default');
  await client.query('drop table placed');
  await client.query('alter table plain set tablespace pg_default');
  await client.query('checkpoint');
  await client.query('drop tablespace other');
  await client.query(`select pg_create_restore_point('the end')`);
  await client.end();
}
