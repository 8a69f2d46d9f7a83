import { open } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import { completeRewind } from '../../src/operations/rewind/complete-rewind.ts';
import { goBack } from '../../src/operations/rewind/go-back.ts';
import { findPlaces } from '../../src/operations/rewind/places.ts';
import { beginRewind } from '../../src/operations/rewind/rewind.ts';
import { finishRewind } from '../../src/operations/rewind/rewind-run.ts';
import { protect } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { contextOf, planRewind } from '../support/rewind-plan.ts';
import { snapshotDifferences, snapshotOf } from '../support/rewind-truth.ts';

const options = { signal: new AbortController().signal, onEvent: () => undefined };

interface Rewound {
  goBack(): Promise<unknown>;
  differences(): Promise<string[]>;
}

/**
 * A transaction that has written before the backup, is open at the target, and committed behind it: in the rewound database
 * it is none that ever committed, and whoever reads its rows there leaves that as a hint in pages that no record names.
 */
async function rewindOpenTransaction(
  cluster: TestCluster,
  how: {
    readonly verifyBeforeOpen: boolean;
    /** The verification finds something wrong, and nothing is opened. */
    readonly fails?: boolean;
  },
): Promise<Rewound> {
  const instance = await protect(cluster);
  await cluster.query('create table slow (id int, note text)');
  await cluster.query('create table quiet as select generate_series(1, 1000) id');
  const [quiet] = await cluster.query<{ path: string }>(`select pg_relation_filepath('quiet') as path`);
  const client = await cluster.connect();
  await client.query('begin');
  await client.query(`insert into slow select n, repeat('s', 200) from generate_series(1, 2000) n`);
  await instance.backup();
  await cluster.query('create table other as select generate_series(1, 100) id');
  const [row] = await cluster.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  await client.query('commit');
  await client.end();
  await cluster.stop();
  if (how.fails === true) await damage(`${cluster.dataDirectory}/${quiet!.path}`);
  const context = await contextOf(instance);
  const rewinding = await planRewind(context, parseLsn(row!.lsn));
  const { tablespaceVersionDirectory } = rewinding.plan.backup;
  const live = await findPlaces(cluster.dataDirectory, 'none');
  const before = await snapshotOf(live, tablespaceVersionDirectory);
  const begun = await beginRewind(context, rewinding, options);
  const { journal } = await finishRewind(begun.run, begun.journal, options);
  const with_ = { service: rewinding.service, ...how, onOpen: (): void => undefined };
  const completed = completeRewind(begun.run, journal, with_, options);
  if (how.fails === true) await expect(completed).rejects.toMatchObject({ code: 'VERIFICATION_FAILED' });
  else await completed;
  return {
    goBack: () =>
      goBack({ ...context, whole: context }, begun.journal.places.safety, {
        ...options,
        confirm: async () => undefined,
      }),
    differences: async () => snapshotDifferences(before, await snapshotOf(live, tablespaceVersionDirectory)),
  };
}

/** A page that nothing changes, so that a rewind leaves it as it is. */
async function damage(path: string): Promise<void> {
  await using file = await open(path, 'r+');
  await file.write(Buffer.from('damage'), 0, 6, 8000);
}

const noChecksums = {
  version: 15,
  checksums: false,
  settings: { wal_log_hints: 'on', autovacuum: 'off' },
} as const;

test('hints logged for want of checksums - also by the server that verifies before opening: going back finds them', async () => {
  await using cluster = await startTestCluster(noChecksums);
  const rewound = await rewindOpenTransaction(cluster, { verifyBeforeOpen: true });
  await cluster.query('select count(*) from slow');
  await rewound.goBack();
  expect(await rewound.differences()).toEqual([]);
  await cluster.start();
  expect(await cluster.query('select count(*)::int as rows from slow')).toEqual([{ rows: 2000 }]);
});

test('hints not logged any more since the rewind - going back is refused: pages would be left as they are', async () => {
  await using cluster = await startTestCluster(noChecksums);
  const rewound = await rewindOpenTransaction(cluster, { verifyBeforeOpen: false });
  await cluster.query('alter system set wal_log_hints = off');
  await cluster.restart();
  await cluster.query('select count(*) from slow');
  await expect(rewound.goBack()).rejects.toMatchObject({
    code: 'REWIND_IMPOSSIBLE',
    message: expect.stringContaining('wal_log_hints'),
  });
});

test('a verification before opening that found damage - the state before is brought back', async () => {
  await using cluster = await startTestCluster({ version: 15, settings: { autovacuum: 'off' } });
  const rewound = await rewindOpenTransaction(cluster, { verifyBeforeOpen: true, fails: true });
  await rewound.goBack();
  expect(await rewound.differences()).toEqual([]);
});
