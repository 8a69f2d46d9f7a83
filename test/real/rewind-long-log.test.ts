import { expect, test } from 'vitest';
import { protect, resultOf, type TestInstance, untilArchived } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

/** More than is left alone behind the server, of segments of 1 MiB, and more than that again to be written over. */
const SEGMENTS = 220;

interface World {
  readonly instance: TestInstance;
  /** The end of the log, and the segment it is in. */
  readonly end: { readonly lsn: string; readonly name: string };
}

/** A backup, a transaction that is prepared and stays so, and many short segments of log that the server does not keep. */
async function longLog(cluster: TestCluster): Promise<World> {
  const instance = await protect(cluster);
  await cluster.query('create table marks (n int primary key)');
  await instance.backup();
  const client = await cluster.connect();
  await client.query("begin; insert into marks values (0); prepare transaction 'in doubt'");
  await client.end();
  let end = { lsn: '', name: '' };
  for (let n = 1; n <= SEGMENTS; n += 1) {
    await cluster.query(`insert into marks values (${n})`);
    const [row] = await cluster.query<{ lsn: string; name: string }>(
      'select lsn::text, pg_walfile_name(lsn) as name from pg_switch_wal() lsn',
    );
    end = row!;
  }
  await untilArchived(instance, end.name);
  await cluster.query('checkpoint');
  return { instance, end };
}

async function rewind(instance: TestInstance, target: string[]): Promise<void> {
  const done = await instance.run(
    ['backup', 'restore', ...target, '--rewind', '--confirm', 'restore shop', '--yes'],
    // The server is never far behind what is fed, so there is always something to write over.
    { env: { AISHELL_STORAGE_FAULTS: JSON.stringify({ delayMs: 20 }) } },
  );
  expect(resultOf(done)).toMatchObject({ way: { kind: 'rewind' } });
}

const stateOf = (cluster: TestCluster): Promise<object[]> =>
  cluster.query(
    'select count(*)::int as marks, max(n) as last, (select string_agg(gid, chr(44)) from pg_prepared_xacts) as prepared from marks',
  );

const cluster = (): Promise<TestCluster> =>
  startTestCluster({
    version: 18,
    walSegmentSizeMb: 1,
    settings: { max_prepared_transactions: 2, min_wal_size: '2MB', max_wal_size: '2MB' },
  });

test('a transaction in doubt since before the log that was written over - is in doubt again', async () => {
  await using own = await cluster();
  const { instance } = await longLog(own);
  const [row] = await own.query<{ xid: string; name: string }>(
    `with gone as (delete from marks returning 1)
       select pg_current_xact_id()::text as xid, pg_walfile_name(pg_current_wal_lsn()) as name, count(*) from gone`,
  );
  await own.query('select pg_switch_wal()');
  await untilArchived(instance, row!.name);
  await rewind(instance, ['--xid', row!.xid]);
  expect(await stateOf(own)).toEqual([{ marks: SEGMENTS, last: SEGMENTS, prepared: 'in doubt' }]);
  const client = await own.connect();
  await client.query("commit prepared 'in doubt'");
  await client.end();
  expect(await stateOf(own)).toEqual([{ marks: SEGMENTS + 1, last: SEGMENTS, prepared: null }]);
});

test('a target exactly at the end of a log that was written over - counts as reached', async () => {
  await using own = await cluster();
  const { instance, end } = await longLog(own);
  await rewind(instance, ['--lsn', end.lsn]);
  expect(await stateOf(own)).toEqual([{ marks: SEGMENTS, last: SEGMENTS, prepared: 'in doubt' }]);
});
