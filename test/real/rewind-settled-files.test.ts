import { chownSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { GIB } from '../../src/base/sizes.ts';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import { rangeBytes } from '../../src/operations/backup/ranges.ts';
import { completeRewind } from '../../src/operations/rewind/complete-rewind.ts';
import { beginRewind } from '../../src/operations/rewind/rewind.ts';
import { finishRewind } from '../../src/operations/rewind/rewind-run.ts';
import { protect } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { contextOf, planRewind } from '../support/rewind-plan.ts';
import { compareDirectories, restoreTruth } from '../support/rewind-truth.ts';

const options = { signal: new AbortController().signal, onEvent: () => undefined };

test('a table that outgrew its first file, whose second was there already - keeps the rows of both', async () => {
  await using cluster = await startTestCluster({ version: 15, settings: { autovacuum: 'off' } });
  const instance = await protect(cluster);
  await cluster.query("create table grown (id int, filler text); insert into grown values (0, 'first')");
  const [place] = await cluster.query<{ path: string }>("select pg_relation_filepath('grown') as path");
  const file = join(cluster.directory, 'data', place!.path);
  const { uid, gid } = statSync(file);
  const whileStopped = async (work: () => void): Promise<void> => {
    await cluster.stop();
    work();
    await cluster.start();
  };
  // As a vacuum leaves a table that was longer than 1 GiB. @source storage/smgr/md.c, mdtruncate
  await whileStopped(() => {
    truncateSync(file, GIB - 100 * 8192);
    writeFileSync(`${file}.1`, '');
    chownSync(`${file}.1`, uid, gid);
  });
  await instance.backup();
  // As an extension by many pages at once leaves it: no record names the last ones of the first file.
  await whileStopped(() => {
    truncateSync(file, GIB);
    truncateSync(`${file}.1`, 2 * 8192);
  });
  await cluster.query("insert into grown select n, repeat('g', 300) from generate_series(1, 5000) n");
  const rows = 'select count(*)::int as rows, sum(id)::int as sum from grown';
  const before = await cluster.query(rows);
  await cluster.query('checkpoint');
  await cluster.query('create table other (id int)');
  await cluster.query('select pg_switch_wal()');
  await cluster.query('checkpoint');
  const [target] = await cluster.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  await cluster.query('insert into other select generate_series(1, 1000)');
  await cluster.stop();
  const context = await contextOf(instance);
  const rewinding = await planRewind(context, parseLsn(target!.lsn));
  const { run, journal } = await beginRewind(context, rewinding, options);
  // The log is thinned by now, but not by what concerns this table.
  expect(run.state.settling).not.toBeNull();
  const finished = await finishRewind(run, journal, options);
  const opening = { service: rewinding.service, verifyBeforeOpen: false, onOpen: () => undefined };
  await completeRewind(run, finished.journal, opening, options);
  expect(await cluster.query(rows)).toEqual(before);
});

test('pages that a table was extended by, and used after the target only - are empty, as in a full restore', async () => {
  await using cluster = await startTestCluster({ version: 16, settings: { autovacuum: 'off' } });
  const instance = await protect(cluster);
  await cluster.query(
    "create table extended as select n id, repeat('e', 300) note from generate_series(1, 2000) n",
  );
  await cluster.query('vacuum (freeze) extended');
  await instance.backup();
  const [place] = await cluster.query<{ path: string }>("select pg_relation_filepath('extended') as path");
  const file = join(cluster.directory, 'data', place!.path);
  await cluster.stop();
  // As an extension by many pages at once leaves it; the next row goes into the last of them.
  truncateSync(file, statSync(file).size + 6 * 8192);
  await cluster.start();
  await cluster.query("insert into extended select -n, repeat('b', 300) from generate_series(1, 24) n");
  // Finds the others, for later.
  await cluster.query('vacuum (freeze) extended');
  await cluster.query('select pg_switch_wal()');
  await cluster.query('checkpoint');
  await cluster.query('create table other (id int)');
  const [target] = await cluster.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  await cluster.query("insert into extended select n, repeat('l', 300) from generate_series(1, 80) n");
  await cluster.query('select count(*) from extended');
  await cluster.stop();
  const context = await contextOf(instance);
  const rewinding = await planRewind(context, parseLsn(target!.lsn));
  const truth = await restoreTruth(context, rewinding, instance.path('truth'));
  const { run, journal } = await beginRewind(context, rewinding, options);
  const work = run.work.items.find(({ path }) => path === place!.path)?.work;
  expect(work?.kind === 'patch' && rangeBytes(work.zeroed)).toBeGreaterThan(2 * 8192);
  const finished = await finishRewind(run, journal, options);
  const compared = await compareDirectories(truth, finished.journal.places, rewinding.plan.backup);
  expect(compared.differences).toEqual([]);
});
