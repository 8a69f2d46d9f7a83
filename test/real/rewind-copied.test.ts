import { open } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import { completeRewind } from '../../src/operations/rewind/complete-rewind.ts';
import { beginRewind } from '../../src/operations/rewind/rewind.ts';
import { protect } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { contextOf, planRewind } from '../support/rewind-plan.ts';

const options = { signal: new AbortController().signal, onEvent: () => undefined };
const BLOCK = 8192;

test('most pages of a file changed, one of the others damaged since - it is put aside, the rest copied from there, that page taken from the backup', async () => {
  await using cluster = await startTestCluster({ version: 18, settings: { autovacuum: 'off' } });
  const instance = await protect(cluster);
  await cluster.query(`create table notes (id int primary key, note text) with (fillfactor = 50);
    insert into notes select n, repeat('n', 500) || n from generate_series(1, 20000) n`);
  await cluster.query('vacuum (freeze, analyze) notes');
  await instance.backup();
  const rows =
    "select count(*)::int as rows, md5(string_agg(id || note, ',' order by id)) as hash from notes";
  const before = await cluster.query(rows);
  const [target] = await cluster.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  await cluster.query(`update notes set note = 'changed' where id > 5000`);
  const [{ path } = { path: '' }] = await cluster.query<{ path: string }>(
    `select pg_relation_filepath('notes') as path`,
  );
  await cluster.stop();
  const file = `${cluster.dataDirectory}/${path}`;
  await damage(file, 17);
  const context = await contextOf(instance);
  const rewinding = await planRewind(context, parseLsn(target!.lsn));
  const { run, journal } = await beginRewind(context, rewinding, options);
  const item = run.work.items.find(each => each.path === path);
  expect(item?.work.kind).toBe('replace');
  expect(run.work.amount.copiedBytes).toBeGreaterThan(2_000_000);
  const { done, unverified, verification } = await completeRewind(
    run,
    journal,
    { service: rewinding.service, verifyBeforeOpen: false, onOpen: () => undefined },
    options,
  );
  expect(done.rewritten?.copiedBytes).toBeGreaterThan(1_000_000);
  expect(done.rewritten?.copiedBytes).toBeLessThan(run.work.amount.copiedBytes);
  expect(unverified).toBeNull();
  expect(verification?.pages?.damaged).toEqual([]);
  expect(await cluster.query(rows)).toEqual(before);
});

async function damage(path: string, block: number): Promise<void> {
  await using file = await open(path, 'r+');
  await file.write(Buffer.from('damage'), 0, 6, block * BLOCK + 8000);
}
