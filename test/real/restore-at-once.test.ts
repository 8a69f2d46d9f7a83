import { readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { failureOf, protect, resultOf, shell, type TestInstance } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';

const full = ['--full', '--confirm', 'restore shop', '--yes'];

/** A table whose rows are gone, and the transaction that did it. */
async function makeDisaster(instance: TestInstance): Promise<string> {
  const { cluster } = instance;
  await cluster.query('create table t as select generate_series(1, 1000) n');
  await instance.backup();
  const [row] = await cluster.query<{ xid: string }>(
    'with gone as (delete from t returning 1) select pg_current_xact_id()::text as xid, count(*) from gone',
  );
  return row!.xid;
}

test('two restores in place at once - one of them is made, the other one has changed nothing', async () => {
  await using cluster = await startTestCluster({ version: 18 });
  const instance = await protect(cluster);
  const xid = await makeDisaster(instance);
  const runs = [0, 1].map(() => instance.start(['backup', 'restore', '--xid', xid, ...full]));
  const done = await Promise.all(runs.map(run => run.done));
  const [good, ...others] = done.filter(({ exitCode }) => exitCode === 0);
  expect(others).toEqual([]);
  expect(resultOf(good!)).toMatchObject({ dryRun: false });
  const refused = done.find(each => each !== good);
  expect(failureOf(refused!)).toMatchObject({ code: 'LOCKED' });
  expect(refused!.stdout).not.toContain('Server stopped');
  expect(await cluster.query('select count(*)::int as rows from t')).toEqual([{ rows: 1000 }]);
  expect((await readdir(cluster.directory)).filter(name => name.includes('aishell-safety')).length).toBe(1);
});

test('something starts the server again while the backup is restored beside it - nothing is exchanged', async () => {
  await using cluster = await startTestCluster({ version: 17 });
  const instance = await protect(cluster);
  const xid = await makeDisaster(instance);
  const beside = await readdir(cluster.directory);
  const run = instance.start(['backup', 'restore', '--xid', xid, ...full]);
  while (!run.stdout().includes('"step":"restore-files"') && run.process.exitCode === null)
    await new Promise(resolve => setTimeout(resolve, 1));
  await cluster.start();
  const pid = await cluster.pid();
  await cluster.query('insert into t values (-1)');
  expect(failureOf(await run.done)).toMatchObject({ code: 'TARGET_RUNNING' });
  expect(await cluster.pid()).toBe(pid);
  expect(await cluster.query('select n from t')).toEqual([{ n: -1 }]);
  expect((await readdir(cluster.directory)).sort()).toEqual(beside.sort());
  expect(await readdir(join(cluster.dataDirectory, 'global'))).toContain('pg_control');
});

test("the server that answers is another machine's - what lies at its place here is left alone", async () => {
  await using cluster = await startTestCluster({ version: 16 });
  const instance = await protect(cluster);
  const xid = await makeDisaster(instance);
  const { dataDirectory } = cluster;
  await cluster.stop();
  const stale = `${dataDirectory}.stale`;
  expect((await shell(cluster, `cp -a '${dataDirectory}' '${stale}'`)).exitCode).toBe(0);
  await cluster.start();
  // It goes on in its directory, wherever that is; here another one has the name.
  await rename(dataDirectory, `${dataDirectory}.elsewhere`);
  await rename(stale, dataDirectory);
  // As for a server in a container, of which no process is seen.
  const text = await readFile(instance.configFile, 'utf8');
  const commands = 'service: { kind: commands, start: "true", stop: "true" }';
  await writeFile(instance.configFile, text.replace(/^( +)(connection:)/m, `$1${commands}\n$1$2`));
  const refused = failureOf(await instance.run(['backup', 'restore', '--xid', xid, ...full]));
  expect(refused).toMatchObject({ code: 'SYSTEM_MISMATCH' });
  expect(refused.message).toContain('does not run in');
  expect((await readdir(cluster.directory)).filter(name => name.includes('aishell-'))).toEqual([]);
  await rename(dataDirectory, stale);
  await rename(`${dataDirectory}.elsewhere`, dataDirectory);
  expect(await cluster.query('select count(*)::int as rows from t')).toEqual([{ rows: 0 }]);
});
