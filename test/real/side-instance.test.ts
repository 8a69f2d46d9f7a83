import { readdir, readFile, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { expect, test } from 'vitest';
import { catalogDigest, decodeCatalog, encodeCatalog } from '../../src/engines/postgres/catalog-encoding.ts';
import type { CatalogRelation } from '../../src/engines/postgres/catalog-snapshot.ts';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import type { InstanceContext } from '../../src/operations/instance-context.ts';
import type { LostReport } from '../../src/operations/lost/lost-report.ts';
import { locateInstance } from '../../src/operations/restore/live-instance.ts';
import { planRecovery } from '../../src/operations/restore/plan-restore.ts';
import { planWithLog } from '../../src/operations/restore/plan-with-log.ts';
import { replayLog } from '../../src/operations/restore/replay-log.ts';
import { planSideFiles, type RestoredPart } from '../../src/operations/side/plan-files.ts';
import { proveFiles } from '../../src/operations/side/prove-files.ts';
import { feedSide, restoreSide } from '../../src/operations/side/restore-side.ts';
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
    const dry: { source: { restored: RestoredPart | null } } = resultOf(
      await instance.run(['backup', 'undo', '--xid', String(xid), '--dry-run']),
    );
    const report = await undo(instance, ['--xid', String(xid)]);
    expect(report.problems).toEqual([]);
    expect(report.undone?.every(each => each.proof.equal)).toBe(true);
    expect(await allRows(shop)).toEqual(before);
    const { restored } = report.source;
    expect(restored).toEqual(dry.source.restored);
    expect(restored?.whyAll).toBeNull();
    expect(restored!.ofBytes).toBeGreaterThan(90_000_000);
    // Most of it are the catalogs of all databases, which are needed where one was made since.
    expect(restored!.bytes).toBeLessThan(62_000_000);
  });
}

/** A server with a large table, a small one with TOASTed values, and a backup of them. */
async function makeShop(cluster: TestCluster): Promise<{ instance: TestInstance; shop: pg.Client }> {
  const instance = await protect(cluster);
  await cluster.query('create database shop');
  const shop = await cluster.connect('shop');
  await shop.query(`
    create table big as select n as id, repeat(md5(n::text), 20) as body from generate_series(1, 50000) n;
    create table users (id int primary key, story text);
    alter table users alter story set storage external;
    insert into users select n, repeat(md5(n::text), 200) from generate_series(1, 300) n`);
  await instance.backup();
  return { instance, shop };
}

async function fileOf(client: pg.Client, sql: string): Promise<string> {
  const { rows } = await client.query<{ path: string }>(`select pg_relation_filepath(${sql}) as path`);
  return rows[0]!.path;
}

test('a side instance for some pages of a table - has them, all of its TOAST relation, and holes elsewhere', async () => {
  await using cluster = await startTestCluster({ version: 18, settings: { autovacuum: 'off' } });
  const { instance, shop } = await makeShop(cluster);
  const context = await contextOf(instance);
  const [big, users, toast, index, toastIndex, catalog, other] = [
    await fileOf(shop, "'big'"),
    await fileOf(shop, "'users'"),
    await fileOf(shop, "(select reltoastrelid from pg_class where relname = 'users')"),
    await fileOf(shop, "'users_pkey'"),
    await fileOf(
      shop,
      "(select indexrelid from pg_index where indrelid = (select reltoastrelid from pg_class where relname = 'users'))",
    ),
    await fileOf(shop, "'pg_attribute'"),
    (await cluster.query<{ path: string }>("select pg_relation_filepath('pg_attribute') as path"))[0]!.path,
  ];
  const [, database, file] = big.split('/').map(Number);
  const relation = { tablespace: 1663, database: database!, file: file! };
  const plan = await planRecovery(
    context,
    { kind: 'backup', id: (await instance.backup()).backup!.id },
    { timeline: null, systemIdentifier: null, securedUs: null, signal },
  );
  const pages = [
    { relation, groups: new Set([1]) },
    { relation: { ...relation, file: Number(users.split('/')[2]) }, groups: null },
  ];
  const files = await planSideFiles(context, plan, { pages, to: 0n }, signal);
  expect(files.whyAll).toBeNull();
  const path = instance.path('side');
  await using directory = await claimSideDirectory(context, {
    ...{ path, origin: cluster.dataDirectory, live: await locateInstance(context, signal), plan, files },
  });
  const { layout } = await restoreSide(context, { plan, files, directory }, options);
  const sizes = async (name: string): Promise<[size: number, written: number]> => {
    const { size, blocks } = await stat(join(layout.dataDirectory, name));
    return [size, blocks * 512];
  };
  const live = async (name: string): Promise<number> => (await stat(join(cluster.dataDirectory, name))).size;
  const [bigSize, bigWritten] = await sizes(big);
  expect(bigSize).toBe(await live(big));
  expect(bigSize).toBeGreaterThan(30_000_000);
  // A piece of a backup is at most 1 MiB.
  expect(bigWritten).toBeGreaterThan(0);
  expect(bigWritten).toBeLessThanOrEqual(2 * 1024 * 1024);
  for (const name of [users, toast, toastIndex, catalog]) {
    const [size, written] = await sizes(name);
    expect([name, size]).toEqual([name, await live(name)]);
    expect(written).toBeGreaterThanOrEqual(size);
  }
  expect((await sizes(index))[1]).toBeGreaterThan(0);
  expect(await sizes(other)).toEqual([await live(other), 0]);
});

test('what the files belong to is not known for certain - all of the backup is restored, and that is said', async () => {
  await using cluster = await startTestCluster({ version: 15, settings: { autovacuum: 'off' } });
  const { instance, shop } = await makeShop(cluster);
  await shop.end();
  await cluster.query('create database copied template shop strategy file_copy');
  const copied = await cluster.connect('copied');
  const before = await rowsOf(copied, 'users');
  const xid = await commit(copied, 'delete from users');
  const report = await undo(instance, ['--xid', String(xid)]);
  expect(report.source.restored).toMatchObject({ whyAll: 'the database was made by a copy of files since' });
  expect(report.source.restored!.bytes).toBe(report.source.restored!.ofBytes);
  expect(await rowsOf(copied, 'users')).toEqual(before);
});

test.each([14, 18] as const)(
  'PostgreSQL %i, the server misses a page that was restored - what it has recovered is refused',
  async version => {
    const settings = { autovacuum: 'off', full_page_writes: 'off' };
    await using cluster = await startTestCluster({ version, settings });
    const { instance, shop } = await makeShop(cluster);
    await shop.query("update users set story = 'short' where id = 1");
    // Missed too, and left out.
    await shop.query("update big set body = 'short' where id = 1");
    const context = await contextOf(instance);
    const live = await locateInstance(context, signal);
    const request = { target: { kind: 'latest' }, directory: instance.path('side'), timeline: null } as const;
    const plan = await planWithLog(
      context,
      { ...request, dryRun: false, way: 'auto', verifyBeforeOpen: false },
      { ...options, live },
    );
    const path = await fileOf(shop, "'users'");
    const [, database, file] = path.split('/').map(Number);
    const relation = { tablespace: 1663, database: database!, file: file! };
    const pages = [{ relation, groups: null }];
    const files = await planSideFiles(context, plan, { pages, to: parseLsn(plan.backup.stopLsn) }, signal);
    const recover = async (spoil: (dataDirectory: string) => Promise<void>): Promise<void> => {
      await using directory = await claimSideDirectory(context, {
        ...{ path: instance.path('side'), origin: cluster.dataDirectory, live, plan, files },
      });
      const side = await restoreSide(context, { plan, files, directory }, options);
      await spoil(side.layout.dataDirectory);
      await using feeder = feedSide(context, side, options);
      const { server } = await replayLog(side.layout, { ...side, feeder }, options);
      try {
        await proveFiles(server, files, [database!], signal);
      } finally {
        await server.stop('immediate');
      }
    };
    await recover(async () => undefined);
    await expect(recover(async directory => await truncate(join(directory, path)))).rejects.toThrow(
      new RegExp(`page \\d+ of file ${file} of database ${database} is needed and was not restored`),
    );
  },
);

test('killed while its server recovers - the next run ends it, removes what is left, and does all of it', async () => {
  await using cluster = await startTestCluster({ version: 18, settings: { autovacuum: 'off' } });
  const { instance, shop } = await makeShop(cluster);
  const before = await rowsOf(shop, 'users');
  await shop.query('update big set body = $$x$$ || body');
  const xid = await commit(shop, 'delete from users');
  const running = instance.start(['backup', 'undo', '--xid', String(xid), '--yes']);
  const done = running.done.catch(() => null);
  while (!running.stdout().includes('"step":"replay"')) {
    expect(running.process.exitCode, running.stdout()).toBeNull();
    await sleep(5);
  }
  process.kill(-running.process.pid!, 'SIGKILL');
  await done;
  const side = `aishell-undo-${instance.name}-${xid}`;
  expect(await readdir(cluster.directory)).toContain(side);
  const report = await undo(instance, ['--xid', String(xid)]);
  expect(report.source.restored?.whyAll).toBeNull();
  expect(await rowsOf(shop, 'users')).toEqual(before);
  expect(await readdir(cluster.directory)).not.toContain(side);
});

/** Replaces all catalogs of an instance by others. */
async function forgeCatalogs(
  instance: TestInstance,
  context: InstanceContext,
  forge: (relation: CatalogRelation) => CatalogRelation,
): Promise<void> {
  const { repository } = context;
  const { systemIdentifier } = instance.init;
  const owner = { instance: instance.name, systemIdentifier };
  for (const place of await listCatalogs(repository, owner)) {
    const bytes = (await getCatalog(repository, { ...owner, ...place }))!;
    const catalog = decodeCatalog(bytes, { ...place, systemIdentifier });
    const forged = { ...catalog, relations: catalog.relations.map(forge) };
    await repository.storage.delete(catalogPath(owner, place));
    const digest = catalogDigest(forged);
    await putCatalog(repository, { ...owner, ...place, bytes: encodeCatalog(forged), digest });
  }
}

test.each([15, 18] as const)(
  'PostgreSQL %i, a file that is needed was left out - it is found before a row is read, and all of the backup restored',
  async version => {
    await using cluster = await startTestCluster({ version, settings: { autovacuum: 'off' } });
    const { instance, shop } = await makeShop(cluster);
    const before = await rowsOf(shop, 'users');
    await forgeCatalogs(instance, await contextOf(instance), each =>
      each.kind === 'index' && each.schema === 'pg_toast'
        ? { ...each, table: { schema: 'public', name: 'other' } }
        : each,
    );
    const xid = await commit(shop, 'delete from users');
    const run = await instance.run(['backup', 'undo', '--xid', String(xid), '--yes']);
    const report = resultOf<{ source: { restored: RestoredPart } }>(run);
    const notes = run.json.filter(each => each.type === 'note').map(each => String(each['message']));
    expect(notes).toContainEqual(
      expect.stringMatching(/a part of the backup was not enough \(pg_toast\.pg_toast_\d+_index is needed/),
    );
    expect(report.source.restored.whyAll).toBe('a part of it was not enough');
    expect(await rowsOf(shop, 'users')).toEqual(before);
  },
);

test.each([14, 18] as const)(
  'PostgreSQL %i, a few rows lost beside a disaster - they are read from a small part of a backup',
  async version => {
    await using cluster = await startTestCluster({ version, settings: { autovacuum: 'off' } });
    const { instance, shop } = await makeShop(cluster);
    await shop.query('update big set body = $$x$$ || body where id % 2 = 0');
    const [{ lsn } = { lsn: '' }] = await cluster.query<{ lsn: string }>(
      'select pg_current_wal_insert_lsn()::text as lsn',
    );
    const xid = await commit(shop, 'delete from users where id > 100');
    await shop.query("update users set story = story || 'kept' where id = 7");
    await shop.query('delete from big where id = 20001');
    const args = ['backup', 'lost', '--lsn', lsn, '--exclude-xid', String(xid)];
    const dry = resultOf<LostReport>(await instance.run([...args, '--dry-run']));
    const report = resultOf<LostReport>(await instance.run([...args, '--output', instance.path('out')]));
    expect(report.restored).toEqual(dry.restored);
    expect(report.restored?.whyAll).toBeNull();
    expect(report.restored!.bytes).toBeLessThan(report.restored!.ofBytes / 2);
    expect(report.problems).toEqual([]);
    expect(report.tables.map(({ table, unread }) => [table, unread]).sort()).toEqual([
      ['big', 0],
      ['users', 0],
    ]);
    const kept = await rowsOf(shop, 'users');
    await shop.end();
    await instance.restore(['--lsn', lsn]);
    const back = await cluster.connect('shop');
    await back.query(await readFile(join(instance.path('out'), 'shop.sql'), 'utf8'));
    await back.query("set search_path = 'public'");
    expect((await rowsOf(back, 'users')).filter(row => row.startsWith('(7,'))).toEqual(
      kept.filter(row => row.startsWith('(7,')),
    );
    expect(await rowsOf(back, '(select from big where id = 20001)')).toEqual([]);
  },
);
