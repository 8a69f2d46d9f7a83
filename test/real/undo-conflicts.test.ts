import { expect, test } from 'vitest';
import type { LeftRows, UndoReport } from '../../src/operations/undo/undo-report.ts';
import { failureOf, protect } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { commit, holdSnapshot, incidentOf, rowsOf, storeIncident, undo } from '../support/undo.ts';

/** What is left of a table, without the server's words. */
function leftOf(report: UndoReport, table: string): Omit<LeftRows, 'message'>[] {
  return (report.tables.find(each => each.table === table)?.left ?? [])
    .map(({ reason, rows, keys }) => ({ reason, rows, keys: keys.toSorted() }))
    .sort((a, b) => a.reason.localeCompare(b.reason));
}

test('others have changed what was destroyed - their rows are kept, each is named with its reason', async () => {
  await using cluster = await startTestCluster({ version: 17, settings: { autovacuum: 'off' } });
  const instance = await protect(cluster);
  await cluster.query('create database shop');
  const client = await cluster.connect('shop');
  await client.query(`
    create table users (id int primary key, email text unique, n int);
    create table ranks (id int primary key, place int unique);
    create table loose (n int, word text);
    create table parents (id int primary key);
    create table children (id int primary key, parent int references parents);
    insert into users select n, 'u' || n, n from generate_series(1, 100) n;
    insert into ranks select n, n from generate_series(1, 20) n;
    insert into loose select n, 'x' from generate_series(1, 10) n, generate_series(1, 2);
    insert into parents select generate_series(1, 5);
    insert into children select n, n from generate_series(1, 5) n`);
  const users = await rowsOf(client, 'users');
  await using snapshot = await holdSnapshot(cluster, 'shop');
  // The snapshot is older than the transaction's own view: this row has another version by then.
  await client.query('update users set n = 1000 where id = 60');
  const xid = await commit(
    client,
    'update users set n = -1 where id <= 50',
    'delete from users where id > 50',
    'update ranks set id = id + 100 where id = 1',
    'update ranks set place = place + 100',
    'delete from loose where n <= 5',
    "update loose set word = 'y' where n > 5",
    'delete from children',
  );
  await client.query(`
    update users set n = 7 where id = 1;
    delete from users where id = 2;
    insert into users values (51, 'again', 51), (152, 'u52', 52), (53, 'u53', 53);
    insert into loose values (1, 'x');
    delete from parents where id = 3`);
  const incident = await storeIncident(instance, { xid, snapshot });
  const report = await undo(instance, ['latest'], [3]);

  expect(leftOf(report, 'users')).toEqual([
    { reason: 'changed since', rows: 1, keys: ['1'] },
    { reason: 'deleted since', rows: 1, keys: ['2'] },
    { reason: 'not in the source', rows: 1, keys: [] },
    { reason: 're-inserted since', rows: 1, keys: ['51'] },
    { reason: 'refused by a constraint', rows: 1, keys: ['52'] },
  ]);
  expect(leftOf(report, 'ranks')).toEqual([{ reason: 'key changed', rows: 20, keys: expect.any(Array) }]);
  expect(leftOf(report, 'loose')).toEqual([{ reason: 'table without a key', rows: 10, keys: [] }]);
  expect(report.references?.problems).toEqual([
    expect.objectContaining({ table: 'public.children', orphans: 1, referencedTable: 'public.parents' }),
  ]);
  const now = await rowsOf(client, 'users');
  const kept = ['(1,u1,7)', '(51,again,51)', '(152,u52,52)'];
  const notBack = ['(1,u1,1)', '(2,u2,2)', '(51,u51,51)', '(52,u52,52)', '(60,u60,60)'];
  expect(now).toEqual([...users.filter(row => !notBack.includes(row)), ...kept].sort());
  expect(await rowsOf(client, 'ranks')).toContain('(101,101)');
  expect((await rowsOf(client, 'loose')).filter(row => row.endsWith('x)'))).toHaveLength(10);
  expect(await incidentOf(instance, incident)).toMatchObject({
    status: 'open',
    events: [{ event: 'undone', text: expect.stringContaining('1 not in the source in users') }],
  });
});

test('what stands in the way is found before anything is changed - each time with the reason', async () => {
  await using cluster = await startTestCluster({ version: 15, settings: { autovacuum: 'off' } });
  const instance = await protect(cluster);
  await cluster.query('create database shop');
  const client = await cluster.connect('shop');
  await client.query(`
    create table users (id int primary key, name text, old text);
    create table orders (id int primary key, amount int);
    insert into users select n, 'n' || n, 'o' from generate_series(1, 20) n;
    insert into orders select n, n from generate_series(1, 20) n`);
  await using snapshot = await holdSnapshot(cluster, 'shop');
  const xid = await commit(client, 'delete from users', 'delete from orders');
  await storeIncident(instance, { xid, snapshot });
  const refuse = async (
    ...args: string[]
  ): Promise<{ exitCode: number | null; code: string; message: string }> =>
    failureOf(await instance.run(['backup', 'undo', ...args]));
  await client.query('alter table users rename name to "full name"');
  await client.query("alter table users add column country text not null default 'FR'");
  await client.query('alter table orders drop column amount');

  expect(await refuse('latest')).toMatchObject({ code: 'UNDO_REFUSED', exitCode: 4 });
  expect((await refuse('latest')).message).toContain("public.orders: its column 'amount' was dropped since");
  expect(await refuse('latest', '--tables', 'nobody')).toMatchObject({ code: 'USAGE' });
  expect(await refuse('latest', '--tables', 'users')).toMatchObject({ code: 'CONFIRMATION_REQUIRED' });
  expect(await rowsOf(client, 'users')).toEqual([]);
  expect(await refuse('--xid', String(xid), '--change', 'the delete on users')).toMatchObject({
    code: 'USAGE',
  });
  expect(await refuse('--change', 'a joke')).toMatchObject({ exitCode: 4 });
  expect(await refuse('incident_20260101_000000_abcdef')).toMatchObject({ code: 'INCIDENT_NOT_FOUND' });
  const inserted = await commit(client, 'insert into users values (99)');
  expect((await refuse('--xid', String(inserted))).message).toContain('it destroyed no rows');

  const done = await undo(instance, ['latest', '--tables', 'users']);
  expect(done.problems).toEqual([]);
  expect(await rowsOf(client, 'users')).toEqual(
    expect.arrayContaining(['(1,n1,o,FR)', '(20,n20,o,FR)', '(99,,,FR)']),
  );
});

test('a role that is no superuser - puts back what it may, and says which triggers fire', async () => {
  await using cluster = await startTestCluster({ version: 16, settings: { autovacuum: 'off' } });
  const instance = await protect(cluster);
  await cluster.query('create role app login in role pg_read_all_settings');
  await cluster.query('grant execute on function pg_switch_wal() to app');
  await cluster.query('create database shop owner app');
  const client = await cluster.connect('shop');
  await client.query(`
    set role app;
    create table users (id int primary key, changed int default 0);
    create table orders (id int primary key, owner int not null references users on delete cascade);
    create function count_it() returns trigger language plpgsql as $$ begin new.changed = new.changed + 1; return new; end $$;
    create trigger counted before update on users for each row execute function count_it();
    insert into users select generate_series(1, 50);
    insert into orders select n, 1 + n % 50 from generate_series(1, 200) n;
    create table chain (id int primary key, after int references chain, filler text);
    insert into chain select n, null, repeat('x', 1000) from generate_series(1, 60) n;
    update chain set after = id + 30 where id <= 30;
    reset role`);
  const tables = ['users', 'orders', 'chain'] as const;
  const state = async (): Promise<string[][]> => {
    const all: string[][] = [];
    for (const table of tables) all.push(await rowsOf(client, table));
    return all;
  };
  const before = await state();
  await using snapshot = await holdSnapshot(cluster, 'shop');
  const xid = await commit(client, 'delete from users', 'delete from chain');
  await storeIncident(instance, { xid, snapshot });
  const config = await import('node:fs/promises');
  const text = await config.readFile(instance.configFile, 'utf8');
  await config.writeFile(instance.configFile, text.replace(/\/\/[^@]+@/, '//app@'));

  const report = await undo(instance, ['latest', '--batch', '25']);
  expect(report).toMatchObject({ problems: [], triggers: ['public.users: counted'] });
  expect(await state()).toEqual(before);
});

test('a recovery went back to before it, and its number was given out again - nobody else is undone', async () => {
  await using cluster = await startTestCluster({ version: 17, settings: { autovacuum: 'off' } });
  const instance = await protect(cluster);
  for (const name of ['users', 'orders'])
    await cluster.query(`create table ${name} as select n as id from generate_series(1, 50) n`);
  await instance.backup();
  const before = await cluster.connect();
  const xid = await commit(before, 'delete from users');
  const [row] = await cluster.query<{ lsn: string }>('select pg_current_wal_lsn()::text as lsn');
  await before.end();
  await instance.restore(['--xid', String(xid)]);
  const client = await cluster.connect();
  let again = 0;
  for (let id = 1; again < xid; id += 1) again = await commit(client, `delete from orders where id = ${id}`);
  expect(again).toBe(xid);
  const left = await rowsOf(client, 'orders');

  const seen = await storeIncident(instance, { xid, snapshot: null });
  const refused = failureOf(await instance.run(['backup', 'undo', seen, '--yes']));
  expect(refused).toMatchObject({ code: 'LOG_NOT_FOUND' });
  const ended = await storeIncident(instance, { xid, snapshot: null, endLsn: row!.lsn });
  const other = failureOf(await instance.run(['backup', 'undo', ended, '--yes']));
  expect(other).toMatchObject({ code: 'UNDO_REFUSED' });
  expect(other.message).toContain('after that was left');
  expect(await rowsOf(client, 'orders')).toEqual(left);

  // The one that has the number now is none of these incidents'.
  const report = await undo(instance, ['--xid', String(xid)]);
  expect(report.incident).toBeNull();
  expect(await rowsOf(client, 'orders')).toHaveLength(left.length + 1);
});
