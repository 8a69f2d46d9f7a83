import { readdir, rename, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import { assessRewind } from '../../src/operations/rewind/assess-rewind.ts';
import { beginRewind } from '../../src/operations/rewind/rewind.ts';
import { protect, shell } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { contextOf, planRewind } from '../support/rewind-plan.ts';

const options = { signal: new AbortController().signal, onEvent: () => undefined };

/** Fills a segment, and waits until it is archived. */
async function archiveSegments(cluster: TestCluster, count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) {
    const [row] = await cluster.query<{ name: string }>(
      'select pg_walfile_name(pg_switch_wal()) as name from pg_create_restore_point($1)',
      [`r${n}`],
    );
    for (let tries = 0; tries < 200; tries += 1) {
      const [last] = await cluster.query<{ name: string | null }>(
        'select last_archived_wal as name from pg_stat_archiver',
      );
      if ((last?.name ?? '') >= row!.name) break;
      await new Promise(resolve => setTimeout(resolve, 50));
    }
  }
}

/**
 * The disk goes back to a snapshot, and the server goes on from there, under the same names of segments as before: the
 * archive says which pages the other server changed, not this one.
 */
test('a data directory that was put back to a snapshot - its log is not the archived one, and it is not rewound', async () => {
  await using cluster = await startTestCluster({ version: 15, settings: { autovacuum: 'off' } });
  const instance = await protect(cluster);
  await cluster.query(`create table t (id int primary key, note text) with (fillfactor = 60);
    insert into t select n, repeat('t', 300) from generate_series(1, 3000) n`);
  await cluster.query('vacuum (freeze) t');
  await instance.backup();
  await cluster.query('update t set note = note where id < 100');
  const [row] = await cluster.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  await archiveSegments(cluster, 1);
  await cluster.stop();
  const snapshot = `${cluster.dataDirectory}.snapshot`;
  await shell(cluster, `cp -a '${cluster.dataDirectory}' '${snapshot}'`);
  await cluster.start();
  await cluster.query('update t set note = note where id between 1000 and 1100');
  await archiveSegments(cluster, 4);
  await cluster.stop();
  await rm(cluster.dataDirectory, { recursive: true });
  await rename(snapshot, cluster.dataDirectory);
  await cluster.start();
  await cluster.query(`update t set note = 'of the other history' where id between 2000 and 2100`);
  await cluster.query('checkpoint');
  const context = await contextOf(instance);
  const rewinding = await planRewind(context, parseLsn(row!.lsn));
  await cluster.stop();
  await expect(beginRewind(context, rewinding, options)).rejects.toMatchObject({
    code: 'REWIND_IMPOSSIBLE',
    message: expect.stringMatching(/is not the one that is archived/),
  });
  await cluster.start();
});

test('a segment damaged in the archive, behind the target - no rewind is possible, and all else goes on', async () => {
  await using cluster = await startTestCluster({ version: 15, settings: { autovacuum: 'off' } });
  const instance = await protect(cluster);
  await cluster.query('create table t as select generate_series(1, 1000) id');
  await instance.backup();
  const [row] = await cluster.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  await cluster.query('delete from t');
  const context = await contextOf(instance);
  const rewinding = await planRewind(context, parseLsn(row!.lsn));
  const newest = (await instance.archivedLog()).filter(name => /^[0-9A-F]{24}$/.test(name)).at(-1)!;
  const entries = await readdir(instance.repository, { recursive: true, withFileTypes: true });
  const object = entries.find(entry => entry.name === newest && entry.parentPath.includes('/log/'))!;
  await truncate(join(object.parentPath, object.name), 1000);
  const assessment = await assessRewind(context, rewinding, options.signal);
  expect(assessment).toMatchObject({
    possible: false,
    reason: expect.stringContaining('not all of the log can be read'),
  });
});
