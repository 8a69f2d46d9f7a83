import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { Incident } from '../../src/operations/incident/incident.ts';
import { startAgent } from '../support/agent.ts';
import { failureOf, resultOf, type TestInstance } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { incidentOf, rowsOf, undo } from '../support/undo.ts';
import { protectWatched, untilIncident } from '../support/watch.ts';

const ROWS = 8000;
const isDetached = ({ events }: Incident): boolean =>
  events.some(({ text }) => text.startsWith('a process of its own keeps the snapshot'));

async function makeUsers(cluster: TestCluster): Promise<void> {
  await cluster.query(
    `create table users as select n as id, md5(n::text) as name from generate_series(1, ${ROWS}) n`,
  );
  await cluster.query('alter table users add primary key (id)');
}

/** Everything is deleted while an agent watches; resolves when a process of its own holds the rows. */
async function deleteAll(cluster: TestCluster, instance: TestInstance): Promise<Incident> {
  const client = await cluster.connect();
  await client.query('begin; delete from users');
  await untilIncident(instance, each => each.guard.snapshot !== null);
  await client.query('commit');
  await client.end();
  return await untilIncident(instance, each => isDetached(each) && each.guard.autovacuumOff.length > 0);
}

async function holders(cluster: TestCluster): Promise<number> {
  const rows = await cluster.query(
    "select from pg_stat_activity where application_name like 'aishell hold incident_%'",
  );
  return rows.length;
}

async function untilHolders(cluster: TestCluster, count: number): Promise<void> {
  for (let tries = 0; (await holders(cluster)) !== count; tries += 1) {
    if (tries === 200) throw new Error(`${await holders(cluster)} sessions hold snapshots`);
    await sleep(100);
  }
}

async function isHeld(cluster: TestCluster, name: string | undefined): Promise<boolean> {
  const client = await cluster.connect();
  await client.query('begin isolation level repeatable read');
  const seen = await client
    .query(`set transaction snapshot '${name}'; select count(*)::int from users`)
    .catch(() => null);
  await client.end();
  return seen !== null;
}

async function autovacuumOff(cluster: TestCluster): Promise<boolean> {
  const rows = await cluster.query(
    "select from pg_class where reloptions::text ~ 'autovacuum_enabled=false'",
  );
  return rows.length > 0;
}

for (const version of [15, 18] as const) {
  test(`PostgreSQL ${version}, the agent is stopped, started, killed - the snapshot outlives it, is taken up again, and serves an undo`, async () => {
    await using cluster = await startTestCluster({ version });
    const instance = await protectWatched(cluster);
    await makeUsers(cluster);
    const client = await cluster.connect();
    const before = await rowsOf(client, 'users');
    const first = await startAgent(instance);
    await instance.backup();
    const seen = await deleteAll(cluster, instance);
    const name = seen.guard.snapshot?.name;
    expect((await first.stop()).exitCode).toBe(0);
    expect(first.notes().map(note => note['topic'])).toContain('still held');

    // Nobody but the process holds it now.
    expect(await holders(cluster)).toBe(1);
    await client.query('vacuum users');
    expect(await isHeld(cluster, name)).toBe(true);
    expect((await incidentOf(instance, seen.id)).guard.snapshot).toMatchObject({ name, releasedAt: null });
    expect(failureOf(await instance.run(['agent', 'status'])).code).toBe('AGENT_NOT_RUNNING');

    const second = await startAgent(instance);
    await second.until('still held');
    expect((await second.status()).watch?.held).toMatchObject([
      {
        ...{ incident: seen.id, autovacuumOff: ['public.users'] },
        ...{ snapshot: { name, releasedAt: null }, outlivesAgent: true },
      },
    ]);
    await sleep(6000);
    expect((await second.status()).watch?.held).toMatchObject([{ snapshot: { name, releasedAt: null } }]);
    await second.kill();
    expect(await autovacuumOff(cluster)).toBe(true);

    const undone = await undo(instance, ['latest']);
    expect(undone.source.kind).toBe('snapshot');
    expect(await rowsOf(client, 'users')).toEqual(before);

    // The next agent finds it resolved, and lets go.
    await using third = await startAgent(instance);
    const over = await untilIncident(
      instance,
      ({ guard }) => guard.snapshot?.releasedAt != null && guard.autovacuumOff.length === 0,
    );
    expect(over.status).toBe('resolved');
    expect(over.events.map(({ event }) => event)).not.toContain('hold lost');
    await untilHolders(cluster, 0);
    expect(await autovacuumOff(cluster)).toBe(false);
    expect((await third.status()).watch?.held).toEqual([]);
  });
}

test('no agent comes back - the process ends by itself when its time is over, and an undo says why it needs the backup', async () => {
  await using cluster = await startTestCluster({ version: 16 });
  const instance = await protectWatched(cluster, { hold_for: '15s' });
  await makeUsers(cluster);
  const client = await cluster.connect();
  const before = await rowsOf(client, 'users');
  const first = await startAgent(instance);
  await instance.backup();
  const seen = await deleteAll(cluster, instance);
  await first.kill();
  expect(await holders(cluster)).toBe(1);
  await untilHolders(cluster, 0);
  expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(seen.guard.snapshot?.heldUntil ?? ''));

  await using second = await startAgent(instance);
  expect((await second.until('hold lost'))['message']).toContain(seen.id);
  const lost = await untilIncident(instance, each => each.guard.snapshot?.releasedAt != null);
  expect(lost).toMatchObject({ status: 'open', guard: { autovacuumOff: ['public.users'] } });
  const shown = await instance.run(['incident', 'show', 'latest']);
  expect(shown.stdout).toContain('the snapshot is gone');
  expect((await second.status()).watch?.held).toMatchObject([
    { incident: seen.id, snapshot: null, outlivesAgent: false, autovacuumOff: ['public.users'] },
  ]);
  expect(await autovacuumOff(cluster)).toBe(true);

  const run = await instance.run(['backup', 'undo', 'latest', '--yes']);
  expect(resultOf<{ source: { kind: string } }>(run).source.kind).toBe('side instance');
  expect(run.stdout).toContain('the held snapshot cannot be used: it was released at');
  expect(await rowsOf(client, 'users')).toEqual(before);
  await untilIncident(instance, each => each.guard.autovacuumOff.length === 0);
  expect(await autovacuumOff(cluster)).toBe(false);
});

test('no agent comes back - resolving ends the process; so does more log than it may keep vacuum from', async () => {
  await using cluster = await startTestCluster({ version: 14 });
  const instance = await protectWatched(cluster, { hold_limit: '32MB' });
  await makeUsers(cluster);
  const agent = await startAgent(instance);
  const seen = await deleteAll(cluster, instance);
  await agent.kill();
  const done = resultOf<{ released: string[]; problems: string[] }>(
    await instance.run(['incident', 'resolve', 'latest']),
  );
  expect(done).toMatchObject({
    problems: [],
    released: [`the snapshot ${seen.guard.snapshot?.name}`, 'autovacuum off for public.users'],
  });
  expect(await holders(cluster)).toBe(0);

  await cluster.query(`insert into users select n, 'again' from generate_series(1, ${ROWS}) n`);
  const second = await startAgent(instance);
  const client = await cluster.connect();
  await client.query('begin; delete from users');
  await untilIncident(instance, each => each.id !== seen.id && each.guard.snapshot !== null);
  await client.query('commit');
  await untilIncident(instance, each => each.id !== seen.id && isDetached(each));
  await second.kill();
  expect(await holders(cluster)).toBe(1);
  await client.query("create table much as select repeat('x', 1000) from generate_series(1, 60000)");
  await untilHolders(cluster, 0);
});
