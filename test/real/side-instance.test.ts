import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { expect, test } from 'vitest';
import { catalogDigest, decodeCatalog, encodeCatalog } from '../../src/engines/postgres/catalog-encoding.ts';
import type { CatalogRelation } from '../../src/engines/postgres/catalog-snapshot.ts';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import type { InstanceContext } from '../../src/operations/instance-context.ts';
import type { LostReport } from '../../src/operations/lost/lost-report.ts';
import { planRecovery, type RecoveryPlan } from '../../src/operations/restore/plan-restore.ts';
import { planSideFiles, type SideFiles } from '../../src/operations/side/plan-files.ts';
import { restoreSide } from '../../src/operations/side/restore-side.ts';
import { claimSideDirectory } from '../../src/operations/side/side-directory.ts';
import { getCatalog, listCatalogs, putCatalog } from '../../src/repository/catalog-archive.ts';
import { catalogPath } from '../../src/repository/layout.ts';
import { protect, resultOf, type TestInstance } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { contextOf } from '../support/rewind-plan.ts';
import { commit, rowsOf, undo } from '../support/undo.ts';

const { signal } = new AbortController();
const options = { signal, onEvent: () => undefined };

const SCHEMA = `
  create table big (id int primary key, body text, word text, spot int4range);
  insert into big select n, repeat(md5(n::text), 10), md5(n::text), int4range(n, n + 3) from generate_series(1, 60000) n;
  create index on big using hash (word);
  create index on big using gin (string_to_array(word, 'a'));
  create index on big using gist (spot);
  create index on big using brin (id);
  create table gone as select * from big where id <= 5000;
  create table users (id int primary key, email text unique, story text);
  alter table users alter story set storage external;
  insert into users select n, 'u' || n, repeat(md5(n::text), 300) from generate_series(1, 500) n;
  create index on users using brin (id);
  create index on users using hash (email);
  create index on users using gin (string_to_array(email, '1'));
  create index on users (lower(email)) where id > 10;
  create table orders (id int primary key, person int references users on delete cascade, note text);
  insert into orders select n, 1 + n % 500, 'n' || n from generate_series(1, 2000) n;
  create table events (id int primary key, at timestamptz default now());
  insert into events select generate_series(1, 3000);
  create table notes (id serial primary key, body text);
  insert into notes (body) select repeat(md5(n::text), 200) from generate_series(1, 300) n;
  alter table notes alter body set storage external;
  update notes set body = body || '.';
  create table rewritten (id int primary key, body text);
  alter table rewritten alter body set storage external;
  insert into rewritten select n, repeat(md5(n::text), 100) from generate_series(1, 400) n;
  create table part (id int, body text) partition by range (id);
  create table part_1 partition of part for values from (0) to (1000);
  create table part_2 partition of part for values from (1000) to (2000);
  insert into part select n, 'p' || n from generate_series(0, 1999) n`;
const TABLES = ['users', 'orders', 'events', 'notes', 'rewritten', 'part', 'later', 'big'];

/** What a server does between a backup and a disaster, in other tables and in those that will be read. */
async function work(cluster: TestCluster, shop: pg.Client): Promise<void> {
  await shop.query("update big set body = 'x' || body where id % 3 = 0");
  await shop.query('delete from big where id % 7 = 0');
  await shop.query('vacuum big');
  await shop.query('checkpoint');
  await shop.query("update big set word = 'w' || word where id % 5 = 0");
  await shop.query('truncate gone; insert into gone select * from big where id < 100');
  await shop.query('vacuum full gone');
  await shop.query('drop table gone');
  await shop.query('reindex table users');
  await shop.query('vacuum full rewritten');
  await shop.query("update rewritten set body = 'again ' || body where id <= 50");
  await shop.query('vacuum full pg_class');
  await shop.query('create table later (id int primary key, body text)');
  await shop.query('alter table later alter body set storage external');
  await shop.query('insert into later select n, repeat(md5(n::text), 150) from generate_series(1, 200) n');
  await shop.query("update users set story = story || ' changed' where id % 2 = 0");
  await cluster.query('drop database other');
  await shop.query('checkpoint');
  await shop.query("insert into orders select n, 1 + n % 500, 'later' from generate_series(2001, 2500) n");
}

async function allRows(client: pg.Client): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {};
  for (const table of TABLES) found[table] = await rowsOf(client, table);
  return found;
}

for (const version of [14, 15, 16, 17, 18] as const) {
  // Without images of pages the log has only changes of pages that are not there.
  const withImages = version % 2 === 0;
  test(`PostgreSQL ${version}, a transaction that destroyed in many ways - it is undone from a small part of a backup`, async () => {
    await using cluster = await startTestCluster({
      version,
      settings: { autovacuum: 'off', full_page_writes: withImages ? 'on' : 'off' },
    });
    const instance = await protect(cluster);
    await cluster.query('create database shop');
    await cluster.query('create database other');
    const shop = await cluster.connect('shop');
    await shop.query(SCHEMA);
    // Catalogs in files with the numbers of users' files.
    await shop.query('vacuum full pg_class');
    await shop.query('vacuum full pg_attribute');
    await shop.query('vacuum full pg_index');
    await instance.backup();
    await work(cluster, shop);
    const copied = version === 14 ? '' : ' strategy file_copy';
    await cluster.query(`create database copied template template1${copied}`);
    const before = await allRows(shop);
    const xid = await commit(
      shop,
      'delete from users where id % 4 = 0',
      "update users set email = email || 'oops', story = 'oops' where id % 4 = 1",
      'truncate events',
      'drop table notes',
      'delete from rewritten',
      'delete from part where id % 10 = 0',
      "update later set body = 'oops'",
      'delete from big where id between 30000 and 30100',
    );
    const dry: { source: { restored: SideFiles | null } } = resultOf(
      await instance.run(['backup', 'undo', '--xid', String(xid), '--dry-run']),
    );
    const report = await undo(instance, ['--xid', String(xid)]);
    expect(report.problems).toEqual([]);
    expect(report.undone?.every(each => each.proof.equal)).toBe(true);
    expect(await allRows(shop)).toEqual(before);
    const { restored } = report.source;
    expect(restored).toEqual(dry.source.restored);
    expect(restored?.whyAll).toBeNull();
    expect(restored!.ofBytes).toBeGreaterThan(100_000_000);
    // The catalogs of five databases are most of it.
    expect(restored!.bytes).toBeLessThan(60_000_000);
  });
}
