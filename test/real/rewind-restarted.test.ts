import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import { findPlaces } from '../../src/operations/rewind/places.ts';
import { beginRewind } from '../../src/operations/rewind/rewind.ts';
import { protect } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { contextOf, planRewind } from '../support/rewind-plan.ts';
import { snapshotDifferences, snapshotOf } from '../support/rewind-truth.ts';

const signal = new AbortController().signal;

test('a server that is started again whenever it is stopped - its files are not touched, and it runs on', async () => {
  await using cluster = await startTestCluster({ version: 15, settings: { autovacuum: 'off' } });
  const instance = await protect(cluster);
  await cluster.query('create table t as select generate_series(1, 1000) id');
  await instance.backup();
  await cluster.query('insert into t select generate_series(1, 500)');
  const [row] = await cluster.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  await cluster.query('delete from t');
  const context = await contextOf(instance);
  const rewinding = await planRewind(context, parseLsn(row!.lsn));

  // It is running as its files are about to be put aside.
  const begun = beginRewind(context, rewinding, { signal, onEvent: () => undefined });
  await expect(begun).rejects.toMatchObject({ code: 'TARGET_RUNNING' });
  await cluster.query('checkpoint');
  expect(await cluster.query('select count(*)::int as rows from t')).toEqual([{ rows: 0 }]);

  // It has run in between, and changed what nobody knows of: its control file tells.
  await cluster.stop();
  const control = join(cluster.dataDirectory, 'global', 'pg_control');
  const good = readFileSync(control);
  const places = await findPlaces(cluster.dataDirectory, 'none');
  const { tablespaceVersionDirectory } = rewinding.plan.backup;
  const touch = (event: object): void => {
    if (!('step' in event && 'state' in event && event.step === 'rewind-plan' && event.state === 'done'))
      return;
    const bytes = readFileSync(control);
    bytes[bytes.length - 1] = 1;
    writeFileSync(control, bytes);
  };
  const before = await snapshotOf(places, tablespaceVersionDirectory);
  await expect(beginRewind(context, rewinding, { signal, onEvent: touch })).rejects.toMatchObject({
    code: 'TARGET_RUNNING',
    message: expect.stringContaining('was started while'),
  });
  writeFileSync(control, good);
  expect(snapshotDifferences(before, await snapshotOf(places, tablespaceVersionDirectory))).toEqual([]);
});
