import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { expect, test } from 'vitest';
import { startAgent } from '../support/agent.ts';
import { startTestCluster } from '../support/postgres.ts';
import { loadTraffic } from '../support/traffic.ts';
import { incidentsOf, protectWatched, untilIncident } from '../support/watch.ts';

const ROWS = 30_000;

test('policy cancel - no row is lost, others are never cancelled, and what was quicker is an incident', async () => {
  await using cluster = await startTestCluster({ version: 16 });
  const instance = await protectWatched(cluster, {
    policy: 'cancel',
    allow: [{ roles: ['purger'], tables: ['public.old_*'] }],
  });
  await cluster.query('create role purger superuser login');
  for (const name of ['a', 'b', 'old_c', 'd'])
    await cluster.query(`create table ${name} as select n as id from generate_series(1, ${ROWS}) n`);
  await using agent = await startAgent(instance);
  const traffic = await loadTraffic(cluster, { clients: 4 });
  await traffic.progress(50);
  const client = await cluster.connect();

  // Row by row, with a pause behind the limit: the cancel arrives while it runs.
  const slowly = `do $$ declare n int := 0; r record; begin
    for r in select id from a loop
      delete from a where id = r.id;
      n := n + 1;
      if n = 6000 then perform pg_sleep(60); end if;
    end loop; end $$`;
  await cluster.query('create index on a (id)');
  await expect(client.query(slowly)).rejects.toMatchObject({ code: '57014' });
  const cancelled = await untilIncident(instance, each => each.status === 'resolved');
  expect(cancelled).toMatchObject({
    resolution: 'it was cancelled by the guard: nothing is lost',
    transaction: { outcome: 'rolled back' },
    guard: { policy: 'cancel', cancelled: true },
  });
  expect(cancelled.guard.snapshot?.releasedAt).not.toBeNull();

  // A session that waits for its next statement has none to cancel: it is ended.
  const deleted = await client.query('begin; delete from b').then(
    () => true,
    (error: { code?: string }) => error.code !== '57014',
  );
  await untilIncident(instance, each => each.status === 'resolved' && each.id !== cancelled.id);
  // Unless the cancel came while it still deleted.
  if (deleted) await expect(client.query('commit')).rejects.toThrow();
  else await client.query('rollback');

  // It holds its lock until it commits, so it can be undone before.
  const truncating = await cluster.connect();
  await truncating.query('begin; truncate d');
  await untilIncident(
    instance,
    each => each.tables.some(({ act }) => act === 'truncate') && each.status === 'resolved',
  );
  await expect(truncating.query('commit')).rejects.toThrow();

  const purger = new pg.Client({ ...cluster.connection, database: 'postgres', user: 'purger' });
  await purger.connect();
  await purger.query('delete from old_c');
  for (const [table, rows] of [
    ['a', ROWS],
    ['b', ROWS],
    ['old_c', 0],
    ['d', ROWS],
  ] as const) {
    const [row] = await cluster.query<{ n: number }>(`select count(*)::int as n from ${table}`);
    expect([table, row?.n]).toEqual([table, rows]);
  }

  // Small and quick: sometimes the commit comes first. Whatever it was, the incident says so.
  let committed = 0;
  const sizes = [5001, 6000, 8000, 12_000, 20_000, 40_000, 80_000, 160_000];
  for (const [round, size] of sizes.entries()) {
    const racing = await cluster.connect();
    await cluster.query(`create table race_${round} as select n as id from generate_series(1, ${size}) n`);
    await racing.query(`delete from race_${round}`).then(
      () => {
        committed += 1;
      },
      (error: { code?: string }) => expect(error.code).toBe('57014'),
    );
    await racing.end();
  }
  const outcomes = async (): Promise<string[]> =>
    (await incidentsOf(instance))
      .filter(({ tables }) => tables[0]?.table.startsWith('race_'))
      .map(({ transaction }) => transaction.outcome);
  for (
    let tries = 0;
    (await outcomes()).filter(each => each === 'committed').length < committed;
    tries += 1
  ) {
    if (tries === 200) throw new Error(`${committed} committed, incidents: ${await outcomes()}`);
    await sleep(50);
  }
  expect((await outcomes()).filter(each => each === 'committed')).toHaveLength(committed);
  console.log(`race: ${committed} of ${sizes.length} were committed before they could be cancelled`);

  // Nobody else was: a writer whose statement is cancelled ends, and all of them still write.
  const written = async (): Promise<ReadonlyMap<number, number>> => {
    const rows = await cluster.query<{ client: number; n: number }>(
      'select client, count(*)::int as n from history group by 1',
    );
    return new Map(rows.map(({ client: number, n }) => [number, n]));
  };
  const before = await written();
  expect(before.size).toBe(4);
  for (let tries = 0; ; tries += 1) {
    const now = await written();
    if ([...now].every(([number, n]) => n > (before.get(number) ?? 0))) break;
    if (tries === 300) throw new Error('a writer was cancelled');
    await sleep(50);
  }
  await purger.end();
  expect((await traffic.stop()).unknown).toBe(0);
  const incidents = await incidentsOf(instance);
  expect(incidents.filter(({ tables }) => tables[0]?.table === 'old_c')).toEqual([]);
  // A snapshot that is held sees every row; one that came too late is not. What was cancelled may be about to be told.
  for (const { guard, tables, transaction } of incidents) {
    if (transaction.outcome !== 'committed') continue;
    if (guard.snapshot === null || guard.snapshot.releasedAt !== null) continue;
    const seer = await cluster.connect();
    await seer.query(
      `begin isolation level repeatable read; set transaction snapshot '${guard.snapshot.name}'`,
    );
    const { rows } = await seer.query<{ n: number }>(`select count(*)::int as n from ${tables[0]?.table}`);
    expect(rows[0]?.n).toBe(tables[0]?.rows);
    await seer.end();
  }
  expect((await agent.status()).watch?.problem).toBeNull();
});
