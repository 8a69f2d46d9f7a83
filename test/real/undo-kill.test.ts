import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { protect } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { commit, holdSnapshot, rowsOf, storeIncident, undo } from '../support/undo.ts';

test('killed while it puts rows back, again and again - the next run finishes, and no row is there twice', async () => {
  await using cluster = await startTestCluster({ version: 18, settings: { autovacuum: 'off' } });
  const instance = await protect(cluster);
  await cluster.query('create database shop');
  const client = await cluster.connect('shop');
  await client.query(`
    create table users (id int primary key, name text, n int);
    create table loose (n int, word text);
    insert into users select n, md5(n::text), n from generate_series(1, 20000) n;
    insert into loose select n % 50, 'x' from generate_series(1, 20000) n`);
  await instance.backup();
  const before = [await rowsOf(client, 'users'), await rowsOf(client, 'loose')];
  await using snapshot = await holdSnapshot(cluster, 'shop');
  const xid = await commit(
    client,
    'update users set n = -n where id > 15000',
    'delete from users where id <= 15000',
    'delete from loose where n < 40',
  );
  await storeIncident(instance, { xid, snapshot });

  // Some rows later each time, so that it is killed in different places.
  for (const rows of [1, 6000, 14_000, 20_000]) {
    const running = instance.start(['backup', 'undo', 'latest', '--yes', '--batch', '100']);
    const done = running.done.catch(() => null);
    const isOver = Promise.race([done, sleep(60_000)]);
    let ended = false;
    void isOver.then(() => {
      ended = true;
    });
    const progress = (): number => {
      const events = running.stdout().match(/"step":"merge".*?"done":(\d+)/g) ?? [];
      return Number(/"done":(\d+)$/.exec(events.at(-1) ?? '')?.[1] ?? 0);
    };
    while (!ended && progress() < rows) await sleep(2);
    if (running.process.pid !== undefined && !ended) process.kill(-running.process.pid, 'SIGKILL');
    await isOver;
  }
  // Its sessions go with it, and with them the lock.
  for (;;) {
    const [row] = await cluster.query(
      "select count(*)::int as n from pg_stat_activity where application_name = 'aishell undo'",
    );
    if (row?.['n'] === 0) break;
    await sleep(50);
  }
  const report = await undo(instance, ['latest', '--batch', '100']);
  expect(report.problems).toEqual([]);
  expect([await rowsOf(client, 'users'), await rowsOf(client, 'loose')]).toEqual(before);
});
