import { chmod } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { startAgent } from '../support/agent.ts';
import { resultOf } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { loadTraffic } from '../support/traffic.ts';
import { incidentsOf, protectWatched, untilIncident } from '../support/watch.ts';

const ROWS = 40_000;

test('the agent is killed while a table is emptied - the next one goes on, holds again, and counts every row', async () => {
  await using cluster = await startTestCluster({ version: 17, walSegmentSizeMb: 1 });
  const instance = await protectWatched(cluster);
  await cluster.query(`create table users as select n as id from generate_series(1, ${ROWS}) n`);
  await cluster.query(`create table other as select n as id from generate_series(1, ${ROWS}) n`);
  const first = await startAgent(instance);
  const traffic = await loadTraffic(cluster, { clients: 2 });
  await traffic.progress(50);
  const client = await cluster.connect();
  await client.query('begin; delete from users where id <= 30000');
  const before = await untilIncident(instance, each => each.guard.snapshot !== null);
  await client.query('savepoint s; delete from other where id <= 100');
  // What it did so far lies in segments that the next agent does not receive again.
  await traffic.progress(3000);
  await first.kill();
  await client.query('delete from users where id > 30000');

  await using agent = await startAgent(instance);
  const lost = await agent.until('hold lost');
  expect(lost['message']).toContain(before.id);
  const again = await untilIncident(
    instance,
    each => each.id === before.id && each.guard.snapshot?.name !== before.guard.snapshot?.name,
  );
  expect(again.guard.snapshot?.releasedAt).toBeNull();
  await client.query('commit');
  const incident = await untilIncident(
    instance,
    each => each.transaction.outcome === 'committed' && each.tables.some(({ rows }) => rows === ROWS),
  );
  expect(incident).toMatchObject({
    id: before.id,
    transaction: { xid: before.transaction.xid, beginLsn: before.transaction.beginLsn },
    tables: [
      { act: 'delete', table: 'users', rows: ROWS },
      { act: 'delete', table: 'other', rows: 100 },
    ],
  });
  expect(incident.events.map(({ event }) => event)).toEqual(expect.arrayContaining(['hold lost', 'held']));

  // Without an agent the command lets go itself.
  await untilIncident(instance, each => each.guard.autovacuumOff.length === 2);
  await agent.kill();
  const done = resultOf<{ released: string[]; problems: string[] }>(
    await instance.run(['incident', 'resolve', 'latest']),
  );
  expect(done.problems).toEqual([]);
  expect(done.released).toHaveLength(3);
  const [row] = await cluster.query<{ n: number }>(
    'select count(*)::int as n from pg_class where reloptions is not null and relnamespace = 2200',
  );
  expect(row?.n).toBe(0);
  await traffic.stop();
  expect(await incidentsOf(instance)).toHaveLength(1);
});

test('the storage is away while it happens - held all the same, and stored when it is back', async () => {
  await using cluster = await startTestCluster({ version: 14 });
  const instance = await protectWatched(cluster);
  await cluster.query(`create table users as select n as id from generate_series(1, ${ROWS}) n`);
  await using agent = await startAgent(instance);
  await chmod(instance.repository, 0o000);
  const client = await cluster.connect();
  await client.query('begin; delete from users');
  await agent.until('incident not stored');
  for (let tries = 0; (await agent.status()).watch?.held[0]?.snapshot == null; tries += 1) {
    if (tries === 200) throw new Error('nothing is held');
    await sleep(50);
  }
  await client.query('commit');
  await agent.until('disaster');
  await chmod(instance.repository, 0o700);
  const incident = await untilIncident(instance, each => each.guard.autovacuumOff.length > 0);
  expect(incident).toMatchObject({
    transaction: { outcome: 'committed' },
    tables: [{ act: 'delete', table: 'users', rows: ROWS }],
  });
  expect(incident.guard.snapshot?.releasedAt).toBeNull();
});

test('a transaction is rolled back - what was held is let go, and nobody has to do anything', async () => {
  await using cluster = await startTestCluster({ version: 18 });
  const instance = await protectWatched(cluster, { allow: [{ applications: ['purge'] }] });
  for (const name of ['users', 'logs'])
    await cluster.query(`create table ${name} as select n as id from generate_series(1, ${ROWS}) n`);
  await using agent = await startAgent(instance);
  const client = await cluster.connect();
  await client.query('begin; update users set id = id + 1');
  await untilIncident(instance, each => each.guard.snapshot !== null);
  await client.query('rollback');
  const over = await untilIncident(instance, each => each.status === 'resolved');
  expect(over).toMatchObject({
    resolution: 'it was rolled back: nothing is lost',
    severity: 'warning',
    transaction: { outcome: 'rolled back' },
    guard: { cancelled: false, autovacuumOff: [] },
  });
  expect(over.guard.snapshot?.releasedAt).not.toBeNull();
  await agent.until('incident over');
  // Whoever is allowed to is nobody's alarm, and nothing is held for him.
  const purge = await cluster.connect();
  await purge.query("set application_name = 'purge'");
  await purge.query('delete from logs');
  await client.query("set application_name = 'somebody'; begin; delete from users where id < 10000");
  await untilIncident(instance, each => each.culprit?.application === 'somebody');
  await client.query('rollback');
  await purge.end();
  expect((await incidentsOf(instance)).map(({ tables }) => tables[0]?.table)).toEqual(['users', 'users']);
  expect((await agent.status()).watch?.problem).toBeNull();
});
