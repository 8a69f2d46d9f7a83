import { expect, test } from 'vitest';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import { completeRewind } from '../../src/operations/rewind/complete-rewind.ts';
import { beginRewind } from '../../src/operations/rewind/rewind.ts';
import { finishRewind } from '../../src/operations/rewind/rewind-run.ts';
import { protect, type TestInstance } from '../support/instance.ts';
import {
  checkClean,
  startTestCluster,
  type TestCluster,
  type TestClusterOptions,
} from '../support/postgres.ts';
import { contextOf, planRewind } from '../support/rewind-plan.ts';
import { compareDirectories, restoreTruth, visibilityBeyond } from '../support/rewind-truth.ts';
import {
  changeDatabases,
  changeWorld,
  makeWorld,
  openTransactions,
  worldSettings,
} from '../support/rewind-world.ts';
import { loadTraffic } from '../support/traffic.ts';

const options = { signal: new AbortController().signal, onEvent: () => undefined };
/** All of them take ten minutes: AISHELL_REWIND_VERSIONS=14,15,16,17,18 */
const versions = (process.env['AISHELL_REWIND_VERSIONS'] ?? '15').split(',').map(Number) as (
  | 14
  | 15
  | 16
  | 17
  | 18
)[];

async function position(cluster: TestCluster): Promise<bigint> {
  const [row] = await cluster.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  return parseLsn(row!.lsn);
}

/** Rewinds and compares with a full restore, before anything opens; then opens it and checks that. */
async function rewindAndCompare(
  instance: TestInstance,
  lsn: bigint,
  how: { readonly crash: boolean; readonly name: string; readonly seed: number },
): Promise<void> {
  const { cluster } = instance;
  const context = await contextOf(instance);
  // The last of the log, which is in no archived segment, names pages that nothing else does.
  const changeLast = (): Promise<unknown> =>
    cluster.query(`update quiet set note = upper(note) where id % 400 = ${how.seed}`);
  if (how.crash) {
    await changeLast();
    await cluster.kill9();
  }
  const rewinding = await planRewind(context, lsn);
  if (!how.crash) {
    await changeLast();
    await rewinding.service.stop();
  }
  const truth = await restoreTruth(context, rewinding, instance.path(`truth-${how.name}`));
  const begun = await beginRewind(context, rewinding, options);
  const { journal } = await finishRewind(begun.run, begun.journal, options);
  const compared = await compareDirectories(truth, journal.places, rewinding.plan.backup);
  expect(compared.differences.slice(0, 50)).toEqual([]);
  expect((await visibilityBeyond(journal.places, truth, rewinding.plan.backup)).slice(0, 50)).toEqual([]);
  // Every way of treating a file was taken.
  const { filesPatched, filesReplaced, filesUntouched, filesRemoved, pagesLeft, pagesKept } =
    begun.run.work.amount;
  for (const count of [filesPatched, filesReplaced, filesUntouched, filesRemoved, pagesLeft, pagesKept])
    expect(count).toBeGreaterThan(0);
  const opened = await completeRewind(
    begun.run,
    journal,
    { service: rewinding.service, verifyBeforeOpen: false, onOpen: () => undefined },
    options,
  );
  expect(opened.unverified).toBeNull();
  expect(opened.verification?.pages?.damaged ?? []).toEqual([]);
  expect(opened.verification?.checks.ok).toBe(true);
  const client = await cluster.connect();
  await checkClean(client);
  await client.end();
}

/** Rounds of changes to both sides of a target, which is in the middle of transactions. */
async function changeAround(cluster: TestCluster, round: number): Promise<bigint> {
  const traffic = await loadTraffic(cluster, { clients: 2 });
  await changeWorld(cluster, round);
  await changeDatabases(cluster, round);
  const open = await openTransactions(cluster, 1_000_000 * round);
  await traffic.progress(30);
  const target = await position(cluster);
  await traffic.progress(10);
  await open.end('commit');
  await changeWorld(cluster, round + 1);
  await changeDatabases(cluster, round + 1);
  await traffic.stop();
  return target;
}

/** What is not usual, each in one version. */
const variants: Readonly<Record<number, Partial<TestClusterOptions>>> = {
  14: { walSegmentSizeMb: 4 },
  16: { checksums: false, settings: { ...worldSettings, wal_log_hints: 'on' } },
};

test.each(versions)(
  'PostgreSQL %i, three rewinds in a row - each equal to a full restore',
  async version => {
    await using cluster = await startTestCluster({ version, settings: worldSettings, ...variants[version] });
    const instance = await protect(cluster);
    await makeWorld(cluster);
    const traffic = await loadTraffic(cluster, { clients: 2 });
    await traffic.progress(20);
    await instance.backup();
    await traffic.stop();
    const first = await changeAround(cluster, 1);
    await rewindAndCompare(instance, first, { crash: false, name: 'clean', seed: 0 });
    // On the new timeline, from a backup of the one before, after a crash.
    const second = await changeAround(cluster, 3);
    await rewindAndCompare(instance, second, { crash: true, name: 'crash', seed: 1 });
    // Farther back than the first rewind went.
    await changeWorld(cluster, 6);
    await rewindAndCompare(instance, first - 5_000_000n, { crash: false, name: 'farther', seed: 2 });
  },
  600_000,
);
