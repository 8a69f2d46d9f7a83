import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { expect, test } from 'vitest';
import type { Incident } from '../../src/operations/incident/incident.ts';
import { startAgent } from '../support/agent.ts';
import type { TestInstance } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { loadTraffic } from '../support/traffic.ts';
import { incidentsOf, protectWatched, untilIncident } from '../support/watch.ts';

const ROWS = 12_000;

/** Runs statements in one transaction, and gives its number. */
async function transact(client: pg.Client, statements: string): Promise<number> {
  await client.query('begin');
  const { rows } = await client.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
  await client.query(statements);
  await client.query('commit');
  return Number(rows[0]?.xid);
}

async function committed(instance: TestInstance, xid: number): Promise<Incident> {
  return await untilIncident(
    instance,
    each => each.transaction.xid === xid && each.transaction.outcome === 'committed',
  );
}

async function makeTables(cluster: TestCluster, names: readonly string[]): Promise<void> {
  for (const name of names)
    await cluster.query(
      `create table ${name} as select n as id, repeat('x', 20) as x from generate_series(1, ${ROWS}) n`,
    );
}

/** Waits until the watch has as many sessions in a database as wanted. */
async function untilSessions(
  cluster: TestCluster,
  database: string,
  isWanted: (sessions: number) => boolean,
): Promise<void> {
  const giveUpMs = performance.now() + 30_000;
  for (;;) {
    const [row] = await cluster.query<{ n: number }>(
      "select count(*)::int as n from pg_stat_activity where application_name = 'aishell watch' and datname = $1",
      [database],
    );
    if (isWanted(row?.n ?? 0)) return;
    if (performance.now() > giveUpMs) throw new Error(`the watch has ${row?.n} sessions in ${database}`);
    await sleep(20);
  }
}

test('every kind of disaster under traffic - one incident each, to the row and the transaction', async () => {
  await using cluster = await startTestCluster({ version: 15 });
  const instance = await protectWatched(cluster);
  await cluster.query('create schema web');
  await cluster.query('create database side');
  await makeTables(cluster, ['a', 'b', 'c', 'd', 'e', 'f', 'web.g', 'web.h', 'few', 'i', 'j', 'k', 'l', 'm']);
  await cluster.query('create index sorted on m (id); create view seen as select 1 as one');
  await cluster.query('delete from few where id > 2000');
  await cluster.query(
    'create table parents as select n as id from generate_series(1, 100) n; alter table parents add primary key (id)',
  );
  await cluster.query(
    `create table children as select n as id, 1 + n % 100 as parent from generate_series(1, ${ROWS}) n;
     alter table children add foreign key (parent) references parents on delete cascade;
     create index on children (parent)`,
  );
  await cluster.query(
    `create table events (id int, day int) partition by list (day);
     create table events_1 partition of events for values in (1);
     create table events_2 partition of events for values in (2);
     insert into events select n, 1 + n % 2 from generate_series(1, 8000) n`,
  );
  await cluster.query('vacuum analyze');
  const side = await cluster.connect('side');
  await side.query(`create table kept as select n from generate_series(1, ${ROWS}) n`);
  await side.end();
  const again = await cluster.connect('side');
  await again.query('analyze');
  await again.end();
  await using agent = await startAgent(instance);
  const traffic = await loadTraffic(cluster, { clients: 2 });
  await traffic.progress(50);
  const client = await cluster.connect();

  const bySavepoint = await transact(client, 'savepoint s; delete from a; release s');
  expect((await committed(instance, bySavepoint)).tables).toMatchObject([
    { act: 'delete', table: 'a', rows: ROWS, rowsBefore: ROWS },
  ]);

  const kept = await transact(
    client,
    'savepoint s; delete from b; rollback to s; delete from b where id <= 6000',
  );
  expect((await committed(instance, kept)).tables).toMatchObject([{ act: 'delete', table: 'b', rows: 6000 }]);

  // Each round is a subtransaction of its own.
  const byLoop = await transact(
    client,
    `do $$ begin for i in 1..6000 loop
       begin delete from c where id = i; exception when division_by_zero then null; end;
     end loop; end $$`.replace(
      'delete from c where id = i',
      'delete from c where ctid = (select ctid from c limit 1)',
    ),
  );
  expect((await committed(instance, byLoop)).tables).toMatchObject([
    { act: 'delete', table: 'c', rows: 6000 },
  ]);

  const byUpdate = await transact(client, "update d set x = 'y'");
  expect(await committed(instance, byUpdate)).toMatchObject({
    rule: { confidence: 'certain' },
    tables: [{ act: 'update', table: 'd', rows: ROWS }],
  });

  const byTruncate = await transact(client, 'truncate e');
  expect(await committed(instance, byTruncate)).toMatchObject({
    rule: { name: 'truncate' },
    tables: [{ act: 'truncate', schema: 'public', table: 'e', rows: null, rowsBefore: ROWS }],
    guard: { snapshot: null, autovacuumOff: [] },
  });

  const byDrop = await transact(client, 'drop table f');
  expect(await committed(instance, byDrop)).toMatchObject({
    rule: { name: 'drop' },
    tables: [{ act: 'drop', table: 'f', rows: null, rowsBefore: ROWS }],
  });

  const bySchema = await transact(client, 'drop schema web cascade');
  const dropped = await committed(instance, bySchema);
  expect(dropped.tables.map(({ schema, table }) => `${schema}.${table}`).sort()).toEqual(['web.g', 'web.h']);

  // What is done to one table beside another is told of each.
  const byMigration = await transact(client, 'truncate i; drop table j; create table fresh (id int)');
  expect(
    (await committed(instance, byMigration)).tables.map(({ act, table }) => `${act} ${table}`).sort(),
  ).toEqual(['drop j', 'truncate i']);
  const byView = await transact(client, 'drop view seen; truncate k; create view seen as select 2 as one');
  expect((await committed(instance, byView)).tables).toMatchObject([{ act: 'truncate', table: 'k' }]);
  // Written anew, once by rows and once by pages: nothing of it is lost.
  for (const statement of ['vacuum full m', 'alter table m alter column id type bigint', 'vacuum full m'])
    await client.query(statement);
  const bySorting = await transact(client, 'cluster m using sorted; drop table l');
  expect((await committed(instance, bySorting)).tables).toMatchObject([{ act: 'drop', table: 'l' }]);

  // Below every number of rows, but more than half of a table.
  const byShare = await transact(client, 'delete from few where id > 500');
  expect(await committed(instance, byShare)).toMatchObject({
    rule: { name: 'share' },
    tables: [{ act: 'delete', table: 'few', rows: 1500, rowsBefore: 2000 }],
  });

  const byCascade = await transact(client, 'delete from parents where id <= 60');
  expect((await committed(instance, byCascade)).tables).toMatchObject([
    { act: 'delete', table: 'children', rows: ROWS * 0.6 },
    { act: 'delete', table: 'parents', rows: 60 },
  ]);

  // Of each partition less than the limit, of the whole more.
  const byPartitions = await transact(client, 'delete from events where id <= 6000');
  const parts = (await committed(instance, byPartitions)).tables;
  expect(parts.map(({ table, rows }) => `${table} ${rows}`).sort()).toEqual([
    'events_1 3000',
    'events_2 3000',
  ]);

  // The watch has sessions in a database that changes; they are in nobody's way.
  const writer = await cluster.connect('side');
  await writer.query('insert into kept select n from generate_series(1, 100) n');
  await writer.end();
  await untilSessions(cluster, 'side', sessions => sessions > 0);
  await cluster.query('drop database side');
  const database = await untilIncident(instance, each =>
    each.tables.some(({ database: name }) => name === 'side'),
  );
  expect(database).toMatchObject({ rule: { name: 'drop' }, transaction: { outcome: 'committed' } });
  expect(database.tables).toMatchObject([
    { act: 'drop', database: 'side', table: 'database side' },
    { act: 'drop', database: 'side', schema: 'public', table: 'kept', rowsBefore: ROWS },
  ]);

  await traffic.stop();
  // What was deleted before anybody watched is nobody's news; the savepoint that was rolled back is over by itself.
  const incidents = await incidentsOf(instance);
  const rolledBack = incidents.filter(({ transaction }) => transaction.outcome === 'rolled back');
  for (const each of rolledBack) expect(each).toMatchObject({ status: 'resolved', tables: [{ table: 'b' }] });
  const lasting = incidents.filter(each => !rolledBack.includes(each));
  expect(lasting, JSON.stringify(lasting.map(({ tables }) => tables[0]))).toHaveLength(14);
  expect((await agent.status()).watch?.problem).toBeNull();
});
