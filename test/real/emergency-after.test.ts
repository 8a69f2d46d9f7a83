import { afterAll, beforeAll, expect, test } from 'vitest';
import { readIncidents } from '../../src/operations/incident/incident-store.ts';
import { resumeWrites, stopWrites } from '../support/emergency.ts';
import { protect, type TestInstance } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { contextOf } from '../support/rewind-plan.ts';
import { configureEmergency } from '../support/server-controls.ts';

let cluster: TestCluster;
let instance: TestInstance;

beforeAll(async () => {
  cluster = await startTestCluster({ version: 18, walSegmentSizeMb: 1 });
  await cluster.query('create database shop');
  instance = await protect(cluster);
  await configureEmergency(instance);
  const shop = await cluster.connect('shop');
  await shop.query(
    "create table users as select n as id, 'user ' || n as name from generate_series(1, 5000) n",
  );
  await instance.backup();
  await shop.query('delete from users where 1 = 1');
  await shop.query("insert into users values (1, 'later')");
  await shop.end();
});

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
});

test('soft after a mass DELETE - the log is archived, a backup made, and the way back to before it is told', async () => {
  const report = await stopWrites(instance, '--backup', '--reason', 'users are gone');
  expect(report.problems).toEqual([]);
  expect(report.log?.archived).toHaveLength(1);
  expect(report.backupId).toMatch(/^backup_/);
  expect(report.recommended?.did).toMatch(/5,000.*users/);
  const [{ xid } = { xid: 0 }] = (report.recommended === null ? [] : [report.recommended]) as {
    xid: number;
  }[];
  expect(report.recommended?.command).toContain(String(xid));
  // The command goes to just before it: all users are there.
  const plan = await instance.run(['backup', 'restore', '--xid', String(xid), '--dry-run']);
  expect(plan.exitCode, plan.stdout).toBe(0);
  await resumeWrites(instance);
});

test('hard and strict - the log is archived to its very end, also from a server in recovery', async () => {
  const shop = await cluster.connect('shop');
  await shop.query("insert into users values (2, 'last')");
  const { rows } = await shop.query<{ lsn: string }>('select pg_current_wal_lsn()::text as lsn');
  await shop.end();
  const hard = await stopWrites(instance, '--level', 'hard');
  expect(hard).toMatchObject({ problems: [], plan: { controlDatabase: 'postgres' } });
  expect(hard.log?.archived).toHaveLength(1);
  const strict = await stopWrites(instance, '--level', 'strict', '--backup');
  expect(strict).toMatchObject({ problems: [], backupId: null });
  expect(strict.log).not.toBeNull();
  // What was written last can be recovered from the archive alone, while the server stands still.
  const plan = await instance.run(['backup', 'restore', '--lsn', rows[0]!.lsn, '--dry-run']);
  expect(plan.exitCode, plan.stdout).toBe(0);
  await resumeWrites(instance);
});

for (const level of ['soft', 'strict'] as const) {
  test(`${level}, then a restore in place to before the disaster - it works, and resume opens it for writing`, async () => {
    const before = await instance.backup();
    expect(before.backup).not.toBeNull();
    const shop = await cluster.connect('shop');
    await shop.query(`create table ${level}_orders as select generate_series(1, 3000) id`);
    await shop.query(`delete from ${level}_orders`);
    await shop.end();
    const report = await stopWrites(instance, '--level', level);
    expect(report.recommended?.did).toMatch(new RegExp(`${level}_orders`));
    await instance.restore(['--xid', String(report.recommended?.xid)]);
    const back = await cluster.connect('shop');
    expect((await back.query(`select count(*)::int from ${level}_orders`)).rows).toEqual([{ count: 3000 }]);
    await expect(back.query(`delete from ${level}_orders`)).rejects.toThrow();
    await back.end();
    expect(await resumeWrites(instance)).toMatchObject({ resumed: true, writable: true });
  });
}

test('a stop after the disaster was undone - it is not announced again, and no second incident is made', async () => {
  const shop = await cluster.connect('shop');
  await shop.query('create table undone (id int primary key)');
  await shop.query('insert into undone select generate_series(1, 3000)');
  await instance.backup();
  await shop.query('delete from undone');
  const first = await stopWrites(instance);
  expect(first.recommended?.did).toContain('undone');
  await resumeWrites(instance);
  const undoing = await instance.run(['backup', 'undo', first.incident?.id ?? '', '--yes']);
  expect(undoing.exitCode, undoing.stdout).toBe(0);
  expect((await shop.query('select count(*)::int from undone')).rows).toEqual([{ count: 3000 }]);
  await shop.end();
  const second = await stopWrites(instance);
  expect(second.recommended?.did ?? '').not.toContain('undone');
  await resumeWrites(instance);
  const of = (await readIncidents(await contextOf(instance))).filter(
    ({ tables }) => tables[0]?.table === 'undone',
  );
  expect(of).toMatchObject([{ id: first.incident?.id, status: 'resolved' }]);
});
