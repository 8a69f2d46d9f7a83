import { open } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import { livePlace } from '../../src/operations/rewind/places.ts';
import { beginRewind } from '../../src/operations/rewind/rewind.ts';
import { finishRewind } from '../../src/operations/rewind/rewind-run.ts';
import { protect } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { contextOf, planRewind } from '../support/rewind-plan.ts';
import { compareDirectories, restoreTruth } from '../support/rewind-truth.ts';

const signal = new AbortController().signal;

test('a settled page is damaged on the disk - the rewind is made once more, with the page of the backup', async () => {
  await using cluster = await startTestCluster({ version: 18, settings: { autovacuum: 'off' } });
  const instance = await protect(cluster);
  await cluster.query(`create table notes (id int primary key, state int, note text) with (fillfactor = 70);
    insert into notes select n, 0, repeat(md5(n::text), 4) from generate_series(1, 60000) n`);
  await cluster.query('vacuum (freeze, analyze) notes');
  await instance.backup();
  const scatter = (first: number): Promise<unknown> =>
    cluster.query(`update notes set state = state + 1 where id % 500 = ${first}`);
  await scatter(1);
  const [place] = await cluster.query<{ path: string; block: number }>(
    "select pg_relation_filepath('notes') as path, (ctid::text::point)[0]::int as block from notes where id = 30001",
  );
  await cluster.query('select pg_switch_wal()');
  await cluster.query('checkpoint');
  await scatter(200);
  const [target] = await cluster.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  await scatter(300);
  await cluster.stop();
  const context = await contextOf(instance);
  const notes: string[] = [];
  const options = {
    signal,
    onEvent: (event: { readonly type: string }) => {
      if (event.type === 'note') notes.push(JSON.stringify(event));
    },
  };
  const rewinding = await planRewind(context, parseLsn(target!.lsn));
  const truth = await restoreTruth(context, rewinding, instance.path('truth'));
  const { run, journal } = await beginRewind(context, rewinding, options);
  expect(run.work.amount.pagesSettled).toBeGreaterThan(100);
  const file = await open(livePlace(journal.places, place!.path), 'r+');
  await file.write(Buffer.alloc(16, 0x5a), 0, 16, place!.block * 8192 + 8000);
  await file.close();
  const finished = await finishRewind(run, journal, options);
  expect(notes.filter(note => note.includes('once more, with all of the log'))).toHaveLength(1);
  const compared = await compareDirectories(truth, finished.journal.places, rewinding.plan.backup);
  expect(compared.differences.slice(0, 50)).toEqual([]);
  // Nothing was left as it was.
  expect(compared.hinted).toBe(0);
});
