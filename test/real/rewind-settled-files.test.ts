import { chownSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { GIB } from '../../src/base/sizes.ts';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import { completeRewind } from '../../src/operations/rewind/complete-rewind.ts';
import { beginRewind } from '../../src/operations/rewind/rewind.ts';
import { finishRewind } from '../../src/operations/rewind/rewind-run.ts';
import { protect } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { contextOf, planRewind } from '../support/rewind-plan.ts';

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
