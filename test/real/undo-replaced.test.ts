import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { failureOf, protect, type TestInstance } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { commit, incidentOf, rowsOf, storeIncident, undo } from '../support/undo.ts';

let cluster: TestCluster;
let instance: TestInstance;
let client: pg.Client;

const tables = ['cut', 'anew', 'users', 'other', 'report', 'old', 'sorted', 'gone', 'one', 'two', 'loose'];

beforeAll(async () => {
  cluster = await startTestCluster({ version: 18, settings: { autovacuum: 'off' } });
  instance = await protect(cluster);
  await cluster.query('create database shop');
  client = await cluster.connect('shop');
  for (const table of tables) {
    await client.query(`create table ${table} (id int primary key, v int, note text)`);
    await client.query(`insert into ${table} select n, n from generate_series(1, 10) n`);
  }
  await client.query(`
    create schema "Od""d";
    create table "Od""d"."We""ird T" (id serial primary key, "V v" text);
    insert into "Od""d"."We""ird T" select n, 'x' from generate_series(1, 10) n;
    create table numbered (id serial primary key, other int generated always as identity);
    insert into numbered select from generate_series(1, 10)`);
  await instance.backup();
});

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
});

const undoOf = (xid: number): ReturnType<typeof undo> => undo(instance, ['--xid', String(xid)]);

test('rows deleted, then the table written anew - they are back in its new file', async () => {
  const xid = await commit(
    client,
    'delete from cut where id <= 5',
    'update cut set v = 0 where id > 8',
    'alter table cut add column at float default random()',
  );
  await client.query('delete from cut where id = 7');
  const report = await undoOf(xid);
  expect(report).toMatchObject({ problems: [], tables: [{ table: 'cut', act: 'rows', destroyed: 7 }] });
  const { rows } = await client.query('select id, v from cut order by id');
  expect(rows).toEqual([1, 2, 3, 4, 5, 6, 8, 9, 10].map(id => ({ id, v: id })));
});

test('a table written anew, then rows deleted - is refused: which ones they were is not in the log', async () => {
  const xid = await commit(
    client,
    'alter table anew add column at float default random()',
    'delete from anew where id < 5',
  );
  const done = await instance.run(['backup', 'undo', '--xid', String(xid), '--yes']);
  expect(failureOf(done)).toMatchObject({ exitCode: 4, code: 'UNDO_REFUSED' });
  expect(failureOf(done).message).toContain('public.anew: the transaction wrote all of it anew');
});

test('dropped and made anew while another table is written anew - the old rows are back', async () => {
  const before = await rowsOf(client, 'users');
  const xid = await commit(
    client,
    'drop table users',
    'create table users (id int primary key, v int, note text)',
    'alter table other alter column v type bigint',
  );
  expect(await undoOf(xid)).toMatchObject({ problems: [], undone: [{ table: 'users', inserted: 10 }] });
  expect(await rowsOf(client, 'users')).toEqual(before);
});

test('truncated while another is dropped and a third is made - the rows of both are back', async () => {
  const before = await rowsOf(client, 'report');
  const xid = await commit(
    client,
    'truncate report',
    'drop table old',
    'create table fresh (id int primary key, note text)',
  );
  const report = await undoOf(xid);
  expect(report.problems).toEqual([]);
  expect(report.undone?.map(({ table, inserted }) => [table, inserted]).sort()).toEqual([
    ['old', 10],
    ['report', 10],
  ]);
  expect(await rowsOf(client, 'report')).toEqual(before);
});

test('a table sorted anew while another is dropped - what others deleted of it since stays away', async () => {
  const xid = await commit(client, 'cluster sorted using sorted_pkey', 'drop table gone');
  await client.query('delete from sorted where id = 3');
  const report = await undoOf(xid);
  expect(report.undone).toMatchObject([{ table: 'gone', inserted: 10 }]);
  expect(await rowsOf(client, 'sorted')).toHaveLength(9);
});

test('only a materialized view or a table sorted anew - there is nothing to undo, and that is no success', async () => {
  await client.query('create materialized view again as select 1');
  for (const statement of ['refresh materialized view again', 'cluster sorted using sorted_pkey']) {
    const xid = await commit(client, statement);
    const done = await instance.run(['backup', 'undo', '--xid', String(xid), '--yes']);
    expect(failureOf(done), statement).toMatchObject({
      code: 'UNDO_REFUSED',
      message: `unable to undo transaction ${xid}: it destroyed no rows of a table`,
    });
  }
});

test('made unlogged, so that the log says nothing of its new file - is refused', async () => {
  const xid = await commit(client, 'alter table loose set unlogged');
  const done = await instance.run(['backup', 'undo', '--xid', String(xid), '--yes']);
  expect(failureOf(done).message).toContain(
    'public.loose: its file was removed, and what was done to it is not',
  );
});

test('a dropped table whose sequence never gave a number, with quotes in its names - is back', async () => {
  const table = '"Od""d"."We""ird T"';
  const before = await rowsOf(client, table);
  const xid = await commit(client, `drop table ${table}`);
  expect(await undoOf(xid)).toMatchObject({ problems: [] });
  expect(await rowsOf(client, table)).toEqual(before);
  const { rows } = await client.query(`select nextval('"Od""d"."We""ird T_id_seq"')::int as next`);
  expect(rows).toEqual([{ next: 1 }]);
});

test('truncated with its sequences begun anew - they go on behind the rows that are back', async () => {
  const xid = await commit(client, 'truncate numbered restart identity');
  expect(await undoOf(xid)).toMatchObject({ problems: [], undone: [{ inserted: 10 }] });
  const { rows } = await client.query('insert into numbered default values returning id, other');
  expect(rows[0]!.id).toBeGreaterThan(10);
  expect(rows[0]!.other).toBeGreaterThan(10);
});

test('only one of two tables asked for - the incident stays open until the other is back as well', async () => {
  const xid = await commit(client, 'delete from one', 'delete from two where id > 3');
  const id = await storeIncident(instance, { xid, snapshot: null });
  expect(await undo(instance, [id, '--tables', 'one'])).toMatchObject({
    problems: [],
    others: ['public.two'],
  });
  expect(await incidentOf(instance, id)).toMatchObject({ status: 'open' });
  expect(await undo(instance, [id])).toMatchObject({ problems: [], others: [] });
  expect(await incidentOf(instance, id)).toMatchObject({ status: 'resolved' });
  expect(await rowsOf(client, 'two')).toHaveLength(10);
});
