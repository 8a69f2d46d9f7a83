import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { checkpointAhead } from '../../src/operations/restore/checkpoint-ahead.ts';
import { protect } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

const ASKED = /checkpoint starting: immediate force wait/;
const { signal } = new AbortController();

const logOf = (cluster: TestCluster): Promise<string> => readFile(cluster.logFile, 'utf8');

test('a restore in place - the server writes a checkpoint while it is planned; none for a dry run', async () => {
  await using cluster = await startTestCluster({ version: 18, settings: { log_checkpoints: 'on' } });
  const instance = await protect(cluster);
  await cluster.query('create table t as select generate_series(1, 1000) n');
  await instance.backup();
  const [row] = await cluster.query<{ xid: string }>(
    'with gone as (delete from t returning 1) select pg_current_xact_id()::text as xid, count(*) from gone',
  );
  const before = (await logOf(cluster)).length;
  await instance.run(['backup', 'restore', '--xid', row!.xid, '--dry-run']);
  expect((await logOf(cluster)).slice(before)).not.toMatch(ASKED);
  await instance.restore(['--xid', row!.xid, '--rewind']);
  const since = (await logOf(cluster)).slice(before);
  expect(since.search(ASKED)).toBeGreaterThan(0);
  expect(since.search(ASKED)).toBeLessThan(since.indexOf('received fast shutdown request'));
  expect(await cluster.query('select count(*)::int as rows from t')).toEqual([{ rows: 1000 }]);
});

test('a role that may not ask for a checkpoint - nothing fails, and nothing is left behind', async () => {
  await using cluster = await startTestCluster({ version: 15 });
  await cluster.query('create role plain login');
  const connection = { ...cluster.connection, user: 'plain' };
  const live = { answers: true, inRecovery: false };
  const asked = checkpointAhead({ connection }, live, signal);
  await expect.poll(() => logOf(cluster), { timeout: 10_000 }).toMatch(/must .* CHECKPOINT/);
  asked?.[Symbol.dispose]();
  await expect
    .poll(() => cluster.query("select 1 from pg_stat_activity where usename = 'plain'"), { timeout: 10_000 })
    .toEqual([]);
});

test('a plan that fails at once - the session is given up, whatever the checkpoint is doing', async () => {
  await using cluster = await startTestCluster({ version: 15 });
  const { connection } = cluster;
  const live = { answers: true, inRecovery: false };
  const asked = checkpointAhead({ connection }, live, signal);
  const startedAt = performance.now();
  asked?.[Symbol.dispose]();
  expect(performance.now() - startedAt).toBeLessThan(100);
  await expect
    .poll(() => cluster.query("select 1 from pg_stat_activity where application_name = 'aishell'"), {
      timeout: 10_000,
    })
    .toEqual([]);
  expect(checkpointAhead({ connection }, { ...live, answers: false }, signal)).toBeNull();
  expect(checkpointAhead({ connection }, { ...live, inRecovery: true }, signal)).toBeNull();
});
