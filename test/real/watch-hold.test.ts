import { expect, test } from 'vitest';
import { startAgent } from '../support/agent.ts';
import { resultOf } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { loadTraffic } from '../support/traffic.ts';
import { incidentsOf, protectWatched, untilIncident } from '../support/watch.ts';

const ROWS = 60_000;

test('DELETE of a whole table under traffic - held before it commits, old rows there until it is resolved', async () => {
  await using cluster = await startTestCluster({ version: 18 });
  const instance = await protectWatched(cluster);
  await cluster.query(
    `create table users as select n as id, md5(n::text) as name from generate_series(1, ${ROWS}) n`,
  );
  await using agent = await startAgent(instance);
  const traffic = await loadTraffic(cluster, { clients: 2 });
  await traffic.progress(50);
  const client = await cluster.connect();
  await client.query("set application_name = 'console'; begin");
  const { rows } = await client.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
  const xid = Number(rows[0]?.xid);
  await client.query('delete from users');

  const running = await untilIncident(instance, each => each.transaction.xid === xid);
  expect(running).toMatchObject({
    status: 'open',
    severity: 'warning',
    transaction: { outcome: 'running', endLsn: null },
    culprit: { application: 'console', role: 'postgres', query: 'delete from users' },
    guard: { policy: 'hold', autovacuumOff: [] },
  });
  expect(running.guard.snapshot?.releasedAt).toBeNull();

  await client.query('commit');
  const incident = await untilIncident(instance, each =>
    each.events.some(({ event }) => event === 'autovacuum off'),
  );
  expect(incident).toMatchObject({
    severity: 'critical',
    rule: { name: 'rows', confidence: 'certain' },
    transaction: { xid, outcome: 'committed' },
    tables: [{ act: 'delete', schema: 'public', table: 'users', rows: ROWS, rowsBefore: ROWS }],
    guard: { autovacuumOff: ['public.users'], snapshot: { database: 'postgres', releasedAt: null } },
  });
  expect(incident.events.map(({ event }) => event)).toEqual(
    expect.arrayContaining(['detected', 'held', 'identified', 'committed', 'reported', 'autovacuum off']),
  );

  // A vacuum does not take what the snapshot sees.
  await cluster.query('vacuum users');
  const seer = await cluster.connect();
  const name = incident.guard.snapshot?.name ?? '';
  await seer.query(`begin isolation level repeatable read; set transaction snapshot '${name}'`);
  const seen = await seer.query<{ n: string; sum: string }>(
    'select count(*) as n, sum(hashtext(name)::bigint) as sum from users',
  );
  expect(Number(seen.rows[0]?.n)).toBe(ROWS);
  await seer.query('rollback');
  expect((await agent.status()).watch?.held).toMatchObject([
    { incident: incident.id, outcome: 'committed', autovacuumOff: ['public.users'] },
  ]);
  await traffic.stop();

  const dry = resultOf<{ released: string[] }>(
    await instance.run(['incident', 'resolve', 'latest', '--dry-run']),
  );
  expect(dry.released).toEqual([`the snapshot ${name}`, 'autovacuum off for public.users']);
  const done = resultOf<{ released: string[]; problems: string[] }>(
    await instance.run(['incident', 'resolve', incident.id.slice(-6), '--reason', 'it was a test']),
  );
  expect(done).toMatchObject({ released: dry.released, problems: [] });
  const [resolved] = await incidentsOf(instance);
  expect(resolved).toMatchObject({
    status: 'resolved',
    resolution: 'it was a test',
    guard: { autovacuumOff: [] },
  });
  expect(resolved?.guard.snapshot?.releasedAt).not.toBeNull();
  await expect(
    seer.query(`begin isolation level repeatable read; set transaction snapshot '${name}'`),
  ).rejects.toThrow('snapshot');
  const [options] = await cluster.query<{ reloptions: string[] | null }>(
    "select reloptions from pg_class where relname = 'users'",
  );
  expect(options?.reloptions).toBeNull();
  expect((await agent.status()).watch?.held).toEqual([]);
  expect(await incidentsOf(instance)).toHaveLength(1);
});
