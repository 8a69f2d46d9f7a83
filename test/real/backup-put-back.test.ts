import { rename } from 'node:fs/promises';
import { expect, test } from 'vitest';
import type { CreateBackupResult } from '../../src/operations/backup/create-backup.ts';
import { openCopy, protect, shell, untilArchived } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';

test('the disk was put back to a snapshot - a backup brings its own log along, as the archive has another under its names', async () => {
  await using cluster = await startTestCluster({ version: 18 });
  const instance = await protect(cluster);
  await cluster.query('create table t (n int)');
  await cluster.stop();
  const { dataDirectory } = cluster;
  const snapshot = instance.path('snapshot');
  expect((await shell(cluster, `cp -a '${dataDirectory}' '${snapshot}'`)).exitCode).toBe(0);
  await cluster.start();
  for (let segment = 0; segment < 8; segment += 1) {
    await cluster.query('insert into t values (1)');
    const [row] = await cluster.query<{ name: string }>('select pg_walfile_name(pg_switch_wal()) as name');
    await untilArchived(instance, row!.name);
  }
  await cluster.stop();
  await rename(dataDirectory, instance.path('later'));
  await rename(snapshot, dataDirectory);
  await cluster.start();
  await cluster.query('insert into t values (2)');
  const done = await instance.run(['backup', 'create']);
  expect(done.exitCode).toBe(3);
  const result = done.json.at(-1)?.['result'] as CreateBackupResult;
  expect(result.problems.join(' ')).toContain('not the one that is archived');
  const id = result.backup!.id;
  const report = await instance.restore(['--backup-id', id, '--target', instance.path('copy')]);
  await using copy = await openCopy(cluster, report);
  const client = await copy.connect();
  expect((await client.query('select n from t')).rows).toEqual([{ n: 2 }]);
}, 120_000);
