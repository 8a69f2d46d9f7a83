import { chown, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import type { TestCluster } from './postgres.ts';

/** Settings of a server whose changes go through as many code paths as a small database can. */
export const worldSettings = {
  max_prepared_transactions: 10,
  autovacuum: 'off',
  // Several checkpoints within a test: pages get their images again and again.
  checkpoint_timeout: '30s',
  max_wal_size: '64MB',
};

const SCHEMA = `
  create extension amcheck;
  create table users (id int primary key, email text not null unique, name text, balance numeric(12, 2));
  insert into users select n, 'user' || n || '@example.com', repeat('n', n % 60), n from generate_series(1, 12000) n;
  create index users_lower on users (lower(name)) where balance > 500;
  create table kinds (id int primary key, h int, words tsvector, at point, numbers int[], label text, r int4range);
  insert into kinds select n, n % 100, to_tsvector('simple', 'word' || n % 50 || ' other' || n % 7),
    point(n, n % 97), array[n, n % 10], 'label ' || n, int4range(n, n + 10) from generate_series(1, 3000) n;
  create index kinds_hash on kinds using hash (h);
  create index kinds_gin on kinds using gin (words);
  create index kinds_gin_array on kinds using gin (numbers) with (fastupdate = on);
  create index kinds_gist on kinds using gist (at);
  create index kinds_gist_range on kinds using gist (r);
  create index kinds_spgist on kinds using spgist (label);
  create index kinds_spgist_point on kinds using spgist (at);
  create index kinds_brin on kinds using brin (id) with (pages_per_range = 4, autosummarize = off);
  create table documents (id int primary key, body text not null);
  alter table documents alter column body set storage external;
  insert into documents select n, (select string_agg(md5((n * 1000 + i)::text), '') from generate_series(1, 200) i)
    from generate_series(1, 60) n;
  create table bulk (id int, filler text) with (fillfactor = 70);
  insert into bulk select n, repeat('b', 300) from generate_series(1, 12000) n;
  create index bulk_id on bulk (id);
  create table quiet (id int primary key, note text);
  insert into quiet select n, repeat('q', 400) from generate_series(1, 8000) n;
  create table calm (id int primary key, at point, note text) with (fillfactor = 80);
  insert into calm select n, point(n % 3000, n / 3000), repeat('c', 250) from generate_series(1, 30000) n;
  create index calm_spgist on calm using spgist (at);
  create index calm_gist on calm using gist (at);
  create table shrinking (id int, filler text);
  insert into shrinking select n, repeat('s', 500) from generate_series(1, 8000) n;
  create table doomed (id int primary key, filler text);
  insert into doomed select n, repeat('d', 200) from generate_series(1, 4000) n;
  create table emptied (id int primary key, filler text);
  insert into emptied select n, repeat('e', 200) from generate_series(1, 4000) n;
  create table rewritten (id int primary key, filler text);
  insert into rewritten select n, repeat('r', 200) from generate_series(1, 4000) n;
  create unlogged table scratch (id int primary key, note text);
  insert into scratch select n, 'gone after a restore' from generate_series(1, 2000) n;
  create sequence tickets;
  create table parts (id int not null, made int) partition by range (made);
  create table parts_1 partition of parts for values from (0) to (1000);
  create table parts_2 partition of parts for values from (1000) to (2000);
  insert into parts select n, n % 2000 from generate_series(1, 4000) n;
  create index parts_1_made on parts_1 (made);
  create materialized view totals as select h, count(*) from kinds group by h;
  create table parents (id int primary key);
  create table children (id int primary key, parent int references parents);
  insert into parents select generate_series(1, 500);
  insert into children select n, 1 + n % 500 from generate_series(1, 2000) n;`;

/** A database with one of everything, and others beside it, before the backup. */
export async function makeWorld(cluster: TestCluster): Promise<void> {
  const place = join(cluster.directory, 'other disk');
  await mkdir(place);
  if (cluster.user !== null) await chown(place, cluster.user.uid, cluster.user.gid);
  await cluster.query(`create tablespace other location '${place}'`);
  await cluster.query(SCHEMA);
  await cluster.query(`create table places (id int primary key, name text) tablespace other;
    create index places_name on places (name) tablespace other;
    insert into places select n, repeat('p', 100) || n from generate_series(1, 4000) n;
    create table moving (id int primary key, name text);
    insert into moving select n, repeat('m', 100) || n from generate_series(1, 3000) n;`);
  for (const name of ['pattern', 'given_up', 'wandering']) {
    await cluster.query(`create database ${name}`);
    const client = await cluster.connect(name);
    await client.query(`create table notes (id int primary key, note text);
      insert into notes select n, repeat('o', 150) || n from generate_series(1, 3000) n;
      create index notes_note on notes (note);`);
    await client.end();
  }
  // Else the first vacuum after the backup would change every page of it.
  await cluster.query('vacuum (freeze, analyze) calm');
  await cluster.query('vacuum (freeze, analyze) quiet');
  // Its last pages are empty, and are cut off without a record that names them.
  await cluster.query(`create table hollow (id int, filler text);
    insert into hollow select n, repeat('h', 700) from generate_series(1, 4000) n; delete from hollow where id > 500`);
  await cluster.query('vacuum (freeze, truncate false) hollow');
  const client = await cluster.connect();
  await client.query(
    `begin; insert into users values (-1, 'kept@prepared', 'x', 1); prepare transaction 'kept'`,
  );
  await client.end();
}

/** Transactions that are open while others work: at the target some are. */
export interface OpenTransactions {
  end(how: 'commit' | 'rollback'): Promise<void>;
}

export async function openTransactions(cluster: TestCluster, from: number): Promise<OpenTransactions> {
  const clients: pg.Client[] = [];
  for (let n = 0; n < 3; n += 1) {
    const client = await cluster.connect();
    clients.push(client);
    await client.query('begin');
    await client.query(
      `insert into users select i, 'open' || i || '@example.com', 'open', 1 from generate_series($1::int, $1::int + 300) i`,
      [from + n * 1000],
    );
    await client.query('savepoint s');
    await client.query('update bulk set filler = filler where id between $1::int and $1::int + 50', [
      1 + n * 100,
    ]);
    if (n === 1) await client.query('rollback to s');
    await client.query(`create table open_${from + n * 1000} as select i from generate_series(1, 500) i`);
  }
  return {
    async end(how) {
      for (const client of clients) {
        await client.query(how);
        await client.end();
      }
    },
  };
}

/**
 * A round of changes of every kind; `round` makes names and rows its own. Rounds before and after the target do the same to
 * the same pages, so that most of them are in the wrong state when the rewind begins.
 */
export async function changeWorld(cluster: TestCluster, round: number): Promise<void> {
  const base = 100_000 * round;
  const client = await cluster.connect();
  const run = async (...statements: readonly string[]): Promise<void> => {
    for (const statement of statements) await client.query(statement);
  };
  await run(
    `insert into users select ${base} + n, 'r${round}u' || n || '@example.com', 'x', n from generate_series(1, 2000) n`,
    `update users set name = name || 'y', balance = balance + 1 where id % 7 = ${round % 7}`,
    `delete from users where id % 11 = ${round % 11} and id > 0`,
    `insert into kinds select ${base} + n, n % 100, to_tsvector('simple', 'r${round} word' || n % 500), point(n * ${round}, n),
       array[n, ${round}], 'label r${round} ' || n, int4range(n, n + ${round + 1}) from generate_series(1, 2500) n`,
    `update kinds set label = 'changed ' || label, at = point(id, ${round}), h = h + 1 where id % 5 = ${round % 5}`,
    `delete from kinds where id % 13 = ${round % 13}`,
    'vacuum kinds',
    `select brin_summarize_new_values('kinds_brin')`,
    `insert into kinds select ${base} + 50000 + n, n, null, null, array[${round}], 'late ' || n, null from generate_series(1, 300) n`,
    `insert into bulk select ${base} + n, repeat('${String.fromCharCode(97 + (round % 20))}', 300) from generate_series(1, 3000) n`,
    `update documents set body = reverse(body) where id % 3 = ${round % 3}`,
    `delete from shrinking where id > ${Math.max(500, 7000 - round * 1500)}`,
    'vacuum shrinking',
    `insert into shrinking select n, repeat('t', 400) from generate_series(1, 300) n`,
  );
  // Here and there a page of a table that is large against what changes.
  await run(
    `update calm set note = 'r${round}' || note where id % 997 = ${round}`,
    `update calm set at = point(${round}, id) where id % 1499 = ${round}`,
    `insert into calm select ${base} + n, point(n, ${round}), repeat('i', 250) from generate_series(1, ${500 * round}) n`,
    `delete from calm where id > ${29_000 - 300 * round} and id < ${base}`,
    'vacuum calm',
  );
  // Cut off, and made longer again by more than is used at once.
  await run('vacuum hollow', `copy hollow from program 'yes "${round}\tagain" | head -n ${900 * round}'`);
  // Hints, without a change of any row.
  await run(
    'checkpoint',
    'select count(*) from users',
    'select count(*) from bulk',
    'select sum(id) from quiet',
  );
  await run(
    `create table made_${round} (id int primary key, t text)`,
    `insert into made_${round} select n, repeat('z', 100) from generate_series(1, 2000) n`,
    `create index made_${round}_t on made_${round} (t)`,
    round === 1 ? 'drop table doomed' : `drop table if exists made_${round - 2}`,
    'truncate emptied',
    `insert into emptied select n, 'again' from generate_series(1, 500 * ${round}) n`,
    `alter table rewritten alter column filler type varchar(${300 + round})`,
    `alter table rewritten add column c${round} int default ${round}`,
    'vacuum full rewritten',
    'reindex table kinds',
    'cluster parts_1 using parts_1_made',
    `alter table moving set tablespace ${round % 2 === 1 ? 'other' : 'pg_default'}`,
    `insert into places select ${base} + n, 'round ${round}' from generate_series(1, 1500) n`,
    `update scratch set note = 'round ${round}'`,
    `create unlogged table scratch_${round} as select generate_series(1, 500) id`,
    'refresh materialized view totals',
    `select setval('tickets', ${round * 100})`,
    `select nextval('tickets') from generate_series(1, 40)`,
    `update parts set made = (made + 700) % 2000 where id % 4 = ${round % 4}`,
    `delete from children where id % 9 = ${round % 9}`,
    `do $$ begin insert into users values (${base} + 90001, 'sub ${round}', 's', 1); begin
       insert into users select ${base} + 91000 + n, 'sub ${round} ' || n, 's', 1 from generate_series(1, 200) n; raise exception 'no';
       exception when others then null; end; end $$`,
  );
  await run('begin', `insert into bulk select n, 'rolled back' from generate_series(1, 2000) n`, 'rollback');
  await run(
    'begin',
    `truncate shrinking`,
    `insert into shrinking select n, 'x' from generate_series(1, 50) n`,
    'rollback',
  );
  await run(
    'begin',
    `create table never (id int)`,
    'insert into never select generate_series(1, 1000)',
    'rollback',
  );
  for (const [name, end] of [
    [`commit_${round}`, 'commit prepared'],
    [`abort_${round}`, 'rollback prepared'],
    [`open_${round}`, null],
  ] as const) {
    await run(
      'begin',
      `insert into children select ${base} + n, 1 from generate_series(1, 50) n on conflict do nothing`,
    );
    await run(
      `update parents set id = id where id = ${round * 20 + name.length}`,
      `prepare transaction '${name}'`,
    );
    if (end !== null) await run(`${end} '${name}'`);
  }
  await run('checkpoint', 'vacuum bulk', 'vacuum (freeze) users', 'analyze');
  await client.end();
}

/** Databases made in both ways, dropped, and moved. */
export async function changeDatabases(cluster: TestCluster, round: number): Promise<void> {
  const both = cluster.binaries.version >= 15;
  const strategies = both ? [' strategy wal_log', ' strategy file_copy'] : [''];
  await changePattern(cluster, round);
  for (const [index, strategy] of strategies.entries()) {
    const name = `made_db_${round}_${index}`;
    await cluster.query(`create database ${name} template pattern${strategy}`);
    const client = await cluster.connect(name);
    await client.query(`insert into notes select 500000 + n, 'own' from generate_series(1, 800) n;
      delete from notes where id % 3 = 0; create table own (id int); insert into own select generate_series(1, 700)`);
    await client.end();
  }
  // The source of a copied database goes on changing after it was copied.
  await changePattern(cluster, round + 50);
  if (round > 1) await cluster.query(`drop database if exists made_db_${round - 1}_0`);
  if (round === 2) await cluster.query('drop database if exists given_up');
  await cluster.query(`alter database wandering set tablespace ${round % 2 === 1 ? 'other' : 'pg_default'}`);
  const wandering = await cluster.connect('wandering');
  await wandering.query(`update notes set note = note || '${round}' where id % 4 = ${round % 4}`);
  await wandering.end();
}

async function changePattern(cluster: TestCluster, round: number): Promise<void> {
  const client = await cluster.connect('pattern');
  await client.query(`update notes set note = 'p${round} ' || note where id % 5 = ${round % 5}`);
  await client.query(`delete from notes where id % 17 = ${round % 17}`);
  await client.query('vacuum notes');
  await client.query(
    `insert into notes select ${10_000 * round} + n, repeat('k', 120) from generate_series(1, 600) n on conflict do nothing`,
  );
  await client.end();
}
