import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { expect, test } from 'vitest';
import { incidentFromLog } from '../../src/operations/incident/incident-from-log.ts';
import { saveIncident } from '../../src/operations/incident/incident-store.ts';
import type { LostReport } from '../../src/operations/lost/lost-report.ts';
import { findTransaction } from '../../src/operations/timeline/find-transaction.ts';
import { reportOf } from '../support/emergency.ts';
import { failureOf, protect, resultOf, type TestInstance } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { contextOf } from '../support/rewind-plan.ts';

const { signal } = new AbortController();
const tables = ['users', 'orders', 'items', '"Odd ""Name"""', 'nokey', 'part', 'wide', 'tree', 'cased'];

const ODD_SETTINGS = {
  ...{ timezone: "'America/New_York'", datestyle: "'German, DMY'", intervalstyle: 'sql_standard' },
  ...{ extra_float_digits: '0', bytea_output: 'escape' },
};

async function makeTables(shop: pg.Client): Promise<void> {
  await shop.query(`
    create table users (id int primary key, name text, mail text unique);
    insert into users select n, 'user ' || n, n || '@shop' from generate_series(1, 2000) n;
    create table orders (id bigint generated always as identity primary key, state text, at timestamptz, price money);
    insert into orders (state, at, price) select 'new', '2025-10-27 14:00:00+02', n from generate_series(1, 50) n;
    create table items (order_id bigint references orders, n int, primary key (order_id, n));
    insert into items select id, 1 from orders;
    create table "Odd ""Name""" ("Key 1" int, b text, twice int generated always as ("Key 1" * 2) stored, primary key ("Key 1", b));
    insert into "Odd ""Name""" select n, 'b' || n from generate_series(1, 20) n;
    create table nokey (a int, j json, f float8, x bytea, at timestamptz default '2025-10-27 14:00:00+02',
      took interval default '-1 day 2 hours');
    insert into nokey select n, '{"a": 1}', n / 3.0, '\\x00ff' from generate_series(1, 20) n;
    insert into nokey values (1, '{"a": 1}', 1 / 3.0, '\\x00ff');
    create extension ltree;
    create table tree (at ltree primary key, n int);
    insert into tree values ('a.b', 1), ('a.c', 2);
    create extension citext;
    create table cased (name citext primary key, n int);
    insert into cased values ('Anna', 1), ('bob', 2);
    create table part (k int primary key, v text) partition by range (k);
    create table part_1 partition of part for values from (0) to (100);
    create table part_2 partition of part for values from (100) to (200);
    insert into part select n, 'p' from generate_series(1, 50) n;
    create table wide (id int primary key, big text, small int);
    insert into wide select n, (select string_agg(md5((n * g)::text), '') from generate_series(1, 400) g), 0 from generate_series(1, 5) n;
    analyze;`);
}

/** What is lost although nothing is wrong with it: every kind of change, in many transactions. */
async function work(shop: pg.Client, other: pg.Client): Promise<void> {
  await shop.query("insert into orders (state, at, price) values ('new', now(), 12.5), ('gone', now(), 1)");
  await shop.query('insert into items select max(id) - 1, 7 from orders');
  // Inserted and changed later: others refer to it from the beginning.
  await shop.query("update orders set state = 'paid' where state = 'new' and price = '12.5'::money");
  await shop.query("delete from orders where state = 'gone'");
  await shop.query('update items set n = n + 10 where order_id <= 3');
  await shop.query('update orders set state = state where id = 9');
  await shop.query('begin');
  await shop.query("update orders set state = 'kept' where id = 4");
  await shop.query('savepoint s');
  await shop.query("update orders set state = 'rolled back' where id = 5");
  await shop.query('rollback to savepoint s');
  await shop.query('savepoint released');
  await shop.query('delete from items where order_id = 6');
  await shop.query('release savepoint released');
  await shop.query('commit');
  await shop.query(`insert into "Odd ""Name""" values (1, 'b1') on conflict do nothing`);
  await shop.query(`insert into "Odd ""Name""" values (21, E'quo''te\\nand \\\\line')`);
  await shop.query(`update "Odd ""Name""" set b = null || 'x' where "Key 1" = 99`);
  await shop.query(`update "Odd ""Name""" set "Key 1" = 100 where "Key 1" = 2`);
  await shop.query("update nokey set j = '[]', f = 'NaN' where a = 3");
  // Two rows that are equal: one of them goes.
  await shop.query('delete from nokey where ctid = (select min(ctid) from nokey where a = 1)');
  await shop.query('insert into nokey values (null, null, -0.0, null)');
  await shop.query("update tree set n = 5 where at = 'a.b'; delete from tree where at = 'a.c'");
  await shop.query("update cased set n = 5 where name = 'anna'; delete from cased where name = 'BOB'");
  await shop.query("update part set k = 150, v = 'moved' where k = 7");
  await shop.query('update wide set small = 1 where id = 1');
  await shop.query(
    "insert into wide select 9, string_agg(md5(g::text), ''), 2 from generate_series(1, 900) g",
  );
  await shop.query("update wide set big = 'short' where id = 2");
  await shop.query("insert into users select n, $$it's$$ || n from generate_series(5000, 5100) n");
  await shop.query(
    'begin; update users set name = $$prepared$$ where id = 5000; prepare transaction $$two$$',
  );
  await other.query("commit prepared 'two'");
}

async function dump(client: pg.Client): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {};
  for (const table of tables) {
    const { rows } = await client.query<{ row: string }>(
      `select tableoid::regclass::text || x::text as row from ${table} x order by 1`,
    );
    found[table] = rows.map(({ row }) => row);
  }
  return found;
}

/** Puts a transaction of the log on record as an incident. */
async function record(instance: TestInstance, xid: string): Promise<void> {
  const context = await contextOf(instance);
  const found = await findTransaction(context, { kind: 'xid', xid: Number(xid) }, { signal });
  const { systemIdentifier } = instance.init;
  const owner = { instance: instance.name, systemIdentifier, toolVersion: 'test' };
  const noticed = { now: new Date(), random: Buffer.from('abc'), when: 'by a test' };
  await saveIncident(context, incidentFromLog(found, owner, noticed));
}

async function lost(instance: TestInstance, ...args: string[]): Promise<LostReport> {
  return resultOf(await instance.run(['backup', 'lost', ...args]));
}

for (const version of [18, 14] as const) {
  test(`PostgreSQL ${version}: what is lost, run again on what is recovered - nothing is missing but the disaster`, async () => {
    await using cluster = await startTestCluster({
      version,
      walSegmentSizeMb: 1,
      settings: { max_prepared_transactions: 5 },
    });
    await cluster.query('create database shop');
    // Whoever runs the file has other settings than whoever wrote it.
    for (const setting of Object.entries(ODD_SETTINGS))
      await cluster.query(`alter database shop set ${setting.join(' = ')}`);
    const instance = await protect(cluster);
    const shop = await cluster.connect('shop');
    const other = await cluster.connect('shop');
    const running = await cluster.connect('shop');
    await makeTables(shop);
    await instance.backup();
    // Begun before the target, committed behind the disaster.
    await running.query(
      "begin; update users set name = 'long' where id = 77; insert into part values (60, 'long')",
    );
    await shop.query("insert into users values (3000, 'kept')");
    const [{ lsn } = { lsn: '' }] = await cluster.query<{ lsn: string }>(
      'select pg_current_wal_insert_lsn()::text as lsn',
    );
    await shop.query(
      "update users set name = 'before the disaster' where id = 5; update users set mail = 'x' where id = 6",
    );
    await shop.query("insert into users values (3001, 'between')");
    const before = await dump(shop);
    const xid = (
      await shop.query<{ xid: string }>(
        'with gone as (delete from users where id <> 77) select pg_current_xact_id()::text as xid',
      )
    ).rows[0]!.xid;
    await work(shop, other);
    await running.query('commit');
    const end = await dump(shop);
    const target = ['--lsn', lsn, '--exclude-xid', xid];
    const also = version === 18 ? ['--format', 'csv', '--output', instance.path('csv')] : ['--dry-run'];
    const counted = await lost(instance, ...target, ...also);
    const report: LostReport = resultOf(
      await instance.run(['backup', 'lost', ...target, '--output', instance.path('sql')]),
    );
    expect(report.problems).toEqual([]);
    expect(report.excluded).toMatchObject([{ xid: Number(xid) }]);
    expect(counted.tables).toEqual(report.tables);
    expect(report.tables.find(({ table }) => table === 'orders')).toMatchObject({
      ...{ inserted: 1, gone: 1, updated: 2, deleted: 0, unread: 0, onTop: 0 },
    });
    expect(report.unchanged).toBe(1);
    expect(await readdir(cluster.directory)).not.toContainEqual(expect.stringContaining('aishell-lost'));
    for (const client of [shop, other, running]) await client.end();
    await instance.restore(['--lsn', lsn]);
    const back = await cluster.connect('shop');
    const recovered = await dump(back);
    const sql = await readFile(join(instance.path('sql'), 'shop.sql'), 'utf8');
    await back.query(sql);
    await back.query('reset all');
    const again = await dump(back);
    for (const table of tables.filter(each => each !== 'users'))
      expect(again[table], table).toEqual(end[table]);
    // Those that it had deleted are there, as they were just before, and all that came behind it.
    const left = new Set(end['users']);
    const others = before['users']!.filter(row => !row.includes('(77,'));
    expect(again['users']).toEqual([...new Set([...others, ...left])].sort());
    expect(recovered['users']).not.toEqual(again['users']);
    expect(sql).toContain(`-- as transaction`);
    if (version !== 18) return;
    const users = await readFile(join(instance.path('csv'), 'shop.public.users.csv'), 'utf8');
    expect(users).toMatch(/^_xid,_committed_at,_operation,id,name,mail\n/);
    expect(users).toContain(',update,5,before the disaster,5@shop');
    expect(users).toContain(",insert,5001,it's5001,\n");
    expect(users.split('\n')).toHaveLength(1 + 3 + 1 + 101 + 1);
  });
}

test('changed on top of a bad UPDATE, a rewritten table - said, and not passed off as exported', async () => {
  await using cluster = await startTestCluster({ version: 15, walSegmentSizeMb: 1 });
  const instance = await protect(cluster);
  await cluster.query(
    "create table users as select n as id, 'user ' || n as name, 0 as visits from generate_series(1, 3000) n",
  );
  await cluster.query('create table logs as select generate_series(1, 10) n');
  await cluster.query('alter table users add primary key (id)');
  await cluster.query('create table events (n int primary key)');
  await instance.backup();
  const bad = await cluster.connect();
  await bad.query("update users set name = 'oops'");
  await bad.query('update users set visits = visits + 1 where id <= 3');
  await bad.query('delete from users where id = 4');
  await bad.query('insert into logs values (11)');
  await bad.query('alter table logs alter n type bigint');
  await bad.query('insert into logs values (12)');
  await bad.query('update logs set n = 100 where n = 1');
  await bad.query("insert into users values (9999, 'new')");
  // Another disaster, which is on record: neither it nor the rows that it took are lost with it.
  await bad.query('insert into events values (1), (2)');
  await bad.query('begin; truncate events');
  const { rows } = await bad.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
  await bad.query('commit; insert into events values (3); delete from users where id = 9');
  await record(instance, rows[0]!.xid);
  const target = ['--point-in-time', 'before the update on users'];
  const done = await instance.run(['backup', 'lost', ...target, '--output', instance.path('out')]);
  expect(done.exitCode).toBe(3);
  const report: LostReport = reportOf(done);
  expect(report.tables.find(({ table }) => table === 'users')).toMatchObject({ inserted: 1, onTop: 5 });
  expect(report.tables.find(({ table }) => table === 'logs')).toMatchObject({
    ...{ inserted: 2, updated: 1, unread: 2 },
  });
  expect(report.tables.find(({ table }) => table === 'events')).toMatchObject({ inserted: 3, unread: 0 });
  expect(report.excluded.map(({ xid }) => String(xid))).toContain(rows[0]!.xid);
  expect(report.acts).toMatchObject([{ table: 'logs' }]);
  expect(report.problems.join('\n')).toMatch(/2 rows of postgres: public.logs could not be read/);
  expect(report.problems.join('\n')).toMatch(/5 rows of postgres: public.users were changed on top/);
  const sql = await readFile(join(instance.path('out'), 'postgres.sql'), 'utf8');
  expect(sql).not.toContain('oops');
  expect(sql.match(/^(INSERT|UPDATE|DELETE)/gm)).toHaveLength(5);
  expect(sql).toContain("VALUES ('12')");
  expect(report.problems.join('\n')).toMatch(/rows of postgres: public.logs .*were written anew/);
  const again = await instance.run(['backup', 'lost', ...target, '--output', instance.path('out')]);
  expect(failureOf(again)).toMatchObject({ code: 'TARGET_NOT_EMPTY' });
  const nothing = await instance.run(['backup', 'lost', ...target]);
  expect(failureOf(nothing).code).toBe('USAGE');
  await bad.end();
  // With a restore: the rows that are lost are written when the instance is open again.
  const restored = await instance.run([
    ...['backup', 'restore', ...target, '--export-lost', instance.path('restored')],
    ...['--confirm', `restore ${instance.name}`, '--yes'],
  ]);
  expect(restored.exitCode, restored.stdout).toBe(3);
  const { exportedLost } = reportOf<{ exportedLost: LostReport }>(restored);
  expect(exportedLost.tables).toEqual(report.tables);
  expect(await readFile(join(instance.path('restored'), 'postgres.sql'), 'utf8')).toBe(sql);
});
