import { expect, test } from 'vitest';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import { completeRewind } from '../../src/operations/rewind/complete-rewind.ts';
import { beginRewind } from '../../src/operations/rewind/rewind.ts';
import { finishRewind } from '../../src/operations/rewind/rewind-run.ts';
import { protect } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { contextOf, planRewind } from '../support/rewind-plan.ts';
import { compareDirectories, restoreTruth } from '../support/rewind-truth.ts';

const options = { signal: new AbortController().signal, onEvent: () => undefined };

test('single pages all over a large file, of a full and an incremental backup - several threads write it; equal to a full restore', async () => {
  await using cluster = await startTestCluster({ version: 18, settings: { autovacuum: 'off' } });
  const instance = await protect(cluster);
  await cluster.query(`create table notes (id int primary key, state int, note text) with (fillfactor = 90);
    insert into notes select n, 0, md5(n::text) || repeat(md5((n / 7)::text), 5) from generate_series(1, 250000) n`);
  await cluster.query('vacuum (freeze, analyze) notes');
  await instance.backup();
  const scatter = (first: number): Promise<unknown> =>
    cluster.query(`update notes set state = state + 1 where id % 1000 = ${first}`);
  await scatter(1);
  await instance.backup(['--type', 'incremental']);
  await scatter(250);
  const rows =
    "select count(*)::int as rows, md5(string_agg(id || ' ' || state, ',' order by id)) as hash from notes";
  const before = await cluster.query(rows);
  const [target] = await cluster.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  // Some pages that the incremental backup has, and some that only the full one has.
  await scatter(2);
  await scatter(500);
  await cluster.stop();
  const context = await contextOf(instance);
  const rewinding = await planRewind(context, parseLsn(target!.lsn));
  const truth = await restoreTruth(context, rewinding, instance.path('truth'));
  const { run, journal } = await beginRewind(context, rewinding, options);
  const { amount } = run.work;
  // Little of it is written, but it is unpacked from most frames of both.
  expect(amount.openedBytes).toBeGreaterThan(50 * 1024 * 1024);
  expect(amount.writtenBytes).toBeLessThan(10 * 1024 * 1024);
  const finished = await finishRewind(run, journal, options);
  const compared = await compareDirectories(truth, finished.journal.places, rewinding.plan.backup);
  expect(compared.differences.slice(0, 50)).toEqual([]);
  const opened = await completeRewind(
    run,
    finished.journal,
    { service: rewinding.service, verifyBeforeOpen: false, onOpen: () => undefined },
    options,
  );
  expect(opened.unverified).toBeNull();
  expect(opened.verification?.pages?.damaged).toEqual([]);
  expect(await cluster.query(rows)).toEqual(before);
});
