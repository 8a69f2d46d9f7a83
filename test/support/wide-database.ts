import { chown, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { type TableFingerprint, type TestCluster, tableFingerprints } from './postgres.ts';

export const USERS = 20_000;

/** What the server needs so that {@link fillWide} can make a prepared transaction. */
export const wideSettings = { max_prepared_transactions: 5 };

const SCHEMA = `
  create extension amcheck;
  create table users (
    id int primary key, email text not null unique, name text not null, country text not null,
    balance numeric(12, 2) not null, created_at timestamptz not null default now());
  insert into users select n, 'user' || n || '@example.com', 'User ' || n, (array['de','fr','us','jp'])[1 + n % 4],
    n % 1000, '2025-01-01'::timestamptz + n * interval '1 minute' from generate_series(1, ${USERS}) n;
  create index users_country on users (country) where balance > 500;
  create index users_lower on users (lower(name));
  create table kinds (id int primary key, h int, words tsvector, at point, numbers int[], label text);
  insert into kinds select n, n % 100, to_tsvector('simple', 'word' || n % 50 || ' other' || n % 7),
    point(n, n % 97), array[n, n % 10], 'label ' || n from generate_series(1, 3000) n;
  create index kinds_hash on kinds using hash (h);
  create index kinds_gin on kinds using gin (words);
  create index kinds_gin_array on kinds using gin (numbers);
  create index kinds_gist on kinds using gist (at);
  create index kinds_spgist on kinds using spgist (label);
  create index kinds_brin on kinds using brin (id);
  create table documents (id int primary key, body text not null);
  alter table documents alter column body set storage external;
  insert into documents select n, (select string_agg(md5((n * 1000 + i)::text), '') from generate_series(1, 300) i)
    from generate_series(1, 40) n;
  create unlogged table scratch (id int primary key, note text);
  insert into scratch select n, 'gone after a restore' from generate_series(1, 1000) n;
  create sequence tickets;
  create table parts (id int not null, made date not null) partition by range (made);
  create table parts_2024 partition of parts for values from ('2024-01-01') to ('2025-01-01');
  create table parts_2025 partition of parts for values from ('2025-01-01') to ('2026-01-01');
  insert into parts select n, '2024-06-01'::date + n % 400 from generate_series(1, 2000) n;
  create materialized view countries as select country, count(*) from users group by country;`;

/** A database with one of everything that a physical backup must take along, leave out, or put elsewhere. */
export async function fillWide(cluster: TestCluster): Promise<void> {
  const place = join(cluster.directory, 'fast disk');
  await mkdir(place);
  if (cluster.user !== null) await chown(place, cluster.user.uid, cluster.user.gid);
  await cluster.query(`create tablespace fast location '${place}'`);
  await cluster.query('create database second');
  await cluster.query(SCHEMA);
  await cluster.query(`create table places (id int primary key, name text) tablespace fast;
    create index places_name on places (name) tablespace fast;
    insert into places select n, 'place ' || n from generate_series(1, 3000) n;`);
  await cluster.query("select setval('tickets', 4711)");
  const second = await cluster.connect('second');
  await second.query(`create extension amcheck; create table notes (id int primary key, note text);
    insert into notes select n, 'note ' || n from generate_series(1, 500) n;`);
  await second.end();
  const preparing = await cluster.connect();
  await preparing.query(`begin; insert into places values (-1, 'prepared'); prepare transaction 'pending'`);
  await preparing.end();
}

export interface WideState {
  readonly postgres: Readonly<Record<string, TableFingerprint>>;
  readonly second: Readonly<Record<string, TableFingerprint>>;
}

/**
 * Rows and checksum of every logged table of both databases. Not the sequence: the log holds its values 32 ahead, so a
 * recovered one goes on a little later, never earlier.
 *
 * @source PostgreSQL, commands/sequence.c, SEQ_LOG_VALS
 */
export async function wideState(source: {
  connect(database?: string): Promise<pg.Client>;
}): Promise<WideState> {
  const postgres = await source.connect();
  const second = await source.connect('second');
  try {
    return { postgres: await tableFingerprints(postgres), second: await tableFingerprints(second) };
  } finally {
    await postgres.end();
    await second.end();
  }
}
