import { readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import { completeRewind } from '../../src/operations/rewind/complete-rewind.ts';
import { goBack } from '../../src/operations/rewind/go-back.ts';
import { findPlaces } from '../../src/operations/rewind/places.ts';
import { beginRewind } from '../../src/operations/rewind/rewind.ts';
import { finishRewind } from '../../src/operations/rewind/rewind-run.ts';
import { protect } from '../support/instance.ts';
import { checkClean, startTestCluster } from '../support/postgres.ts';
import { contextOf, planRewind } from '../support/rewind-plan.ts';
import { snapshotDifferences, snapshotOf } from '../support/rewind-truth.ts';
import {
  changeDatabases,
  changeWorld,
  makeWorld,
  openTransactions,
  worldSettings,
} from '../support/rewind-world.ts';

const options = { signal: new AbortController().signal, onEvent: () => undefined };

test.each([
  { version: 17, verifyBeforeOpen: false, crash: false },
  { version: 16, verifyBeforeOpen: true, crash: true },
] as const)(
  'rewound, opened, used and given up %j - to the byte what it was before',
  async how => {
    await using cluster = await startTestCluster({ version: how.version, settings: worldSettings });
    const instance = await protect(cluster);
    await makeWorld(cluster);
    await instance.backup();
    await changeWorld(cluster, 1);
    await changeDatabases(cluster, 1);
    const open = await openTransactions(cluster, 1_000_000);
    const [row] = await cluster.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
    await open.end('commit');
    await changeWorld(cluster, 2);
    await cluster.stop();
    const context = await contextOf(instance);
    const rewinding = await planRewind(context, parseLsn(row!.lsn));
    const { tablespaceVersionDirectory } = rewinding.plan.backup;
    const live = await findPlaces(cluster.dataDirectory, 'none');
    const before = await snapshotOf(live, tablespaceVersionDirectory);
    const begun = await beginRewind(context, rewinding, options);
    const { journal } = await finishRewind(begun.run, begun.journal, options);
    const { service } = rewinding;
    const { verifyBeforeOpen } = how;
    const onOpen = (): void => undefined;
    await completeRewind(begun.run, journal, { service, verifyBeforeOpen, onOpen }, options);
    // Everything changes once more, on the new timeline: pages that nothing had named before the rewind as well.
    await changeWorld(cluster, 4);
    await changeDatabases(cluster, 4);
    await cluster.query('update quiet set note = note');
    await cluster.query('vacuum full quiet');
    await cluster.query('update calm set note = note where id % 50 = 0');
    if (how.crash) await cluster.kill9();
    const report = await goBack({ ...context, whole: context }, begun.journal.places.safety, {
      ...options,
      confirm: async () => undefined,
    });
    expect(report).toMatchObject({ started: false, timeline: 1, abandonedTimeline: 2 });
    expect(report.broughtBack?.fromBackupBytes).toBeGreaterThan(0);
    const now = await snapshotOf(live, tablespaceVersionDirectory);
    expect(snapshotDifferences(before, now)).toEqual([]);
    expect((await readdir(cluster.directory)).filter(name => name.includes('aishell-safety'))).toEqual([]);
    await cluster.start();
    const client = await cluster.connect();
    await checkClean(client);
    await client.end();
  },
  400_000,
);
