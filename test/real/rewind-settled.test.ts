import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { OperationEvent } from '../../src/base/events.ts';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import type { RunOptions } from '../../src/operations/instance-context.ts';
import { completeRewind } from '../../src/operations/rewind/complete-rewind.ts';
import { goBack } from '../../src/operations/rewind/go-back.ts';
import type { RewindJournal } from '../../src/operations/rewind/journal.ts';
import { findPlaces } from '../../src/operations/rewind/places.ts';
import { beginRewind, type Rewinding } from '../../src/operations/rewind/rewind.ts';
import { finishRewind, type RewindRun } from '../../src/operations/rewind/rewind-run.ts';
import { protect, type TestInstance } from '../support/instance.ts';
import {
  checkClean,
  startTestCluster,
  type TableFingerprint,
  type TestCluster,
  type TestClusterOptions,
  tableFingerprints,
} from '../support/postgres.ts';
import { contextOf, planRewind } from '../support/rewind-plan.ts';
import {
  compareDirectories,
  restoreTruth,
  snapshotDifferences,
  snapshotOf,
  visibilityBeyond,
} from '../support/rewind-truth.ts';
import { seeded } from '../support/seeded.ts';
import {
  checkIndexes,
  checkVisibility,
  SettledWorld,
  settledWorldSettings,
} from '../support/settled-world.ts';

const variants = {
  plain: {},
  /** Records that go on in the next segment. */
  'small segments': { walSegmentSizeMb: 1 },
  compressed: { settings: { wal_compression: 'on' } },
  hints: { checksums: false, settings: { wal_log_hints: 'on' } },
  'no images': { settings: { full_page_writes: 'off' } },
} as const satisfies Record<string, Partial<TestClusterOptions>>;

/** More of them: AISHELL_REWIND_VERSIONS=14,15,16,17,18 AISHELL_REWIND_SEEDS=1,2 AISHELL_REWIND_VARIANTS='plain,no images' */
const listed = (name: string, otherwise: string): string[] => (process.env[name] ?? otherwise).split(',');
const versions = listed('AISHELL_REWIND_VERSIONS', '17').map(Number) as TestClusterOptions['version'][];
const seeds = listed('AISHELL_REWIND_SEEDS', '1').map(Number);
const chosen = listed('AISHELL_REWIND_VARIANTS', 'small segments') as (keyof typeof variants)[];

function start(version: TestClusterOptions['version'], name: keyof typeof variants): Promise<TestCluster> {
  const variant: Partial<TestClusterOptions> = variants[name];
  return startTestCluster({
    ...{ version, ...variant },
    settings: { ...settledWorldSettings, ...variant.settings },
  });
}

/** Fails where pages that were left as they are turned out not to be as they have to be. */
function strict(): { signal: AbortSignal; onEvent: (event: OperationEvent) => void } {
  return {
    signal: new AbortController().signal,
    onEvent: event => {
      if (event.type === 'note' && event.message.startsWith('once more')) throw new Error(event.message);
    },
  };
}

interface Changed {
  readonly lsn: bigint;
  /** Of every table, at the target. */
  readonly rows: Record<string, TableFingerprint>;
  readonly tickets: readonly Record<string, unknown>[];
}

const sequences =
  'select last_value::int as last, is_called from tickets union all select last_value::int, is_called from often';

/** A backup, much that is changed before the last checkpoint before a target, and a little around the target. */
async function changeMuch(instance: TestInstance, world: SettledWorld, seed: number): Promise<Changed> {
  const { cluster } = instance;
  const random = seeded(seed + 1000);
  await world.make();
  await instance.backup();
  await world.change(1, 'all over');
  if (random(2) === 0) await world.changeDatabases();
  await world.change(1 + random(2), 'all over');
  const early = random(3) === 0 ? null : await world.open();
  await world.readAll();
  await cluster.query('checkpoint');
  if (random(2) === 0) await world.readAll();
  await cluster.query('select pg_switch_wal()');
  await cluster.query('checkpoint');
  await world.change(random(3), 'here and there');
  const open = await world.open();
  const client = await cluster.connect();
  const rows = await tableFingerprints(client);
  const { rows: tickets } = await client.query(sequences);
  const { rows: at } = await client.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  await client.end();
  if (random(2) === 0) await cluster.query('checkpoint');
  await open.end();
  await early?.end();
  await world.readAll();
  await world.change(1, 'here and there');
  if (random(2) === 0) await world.changeDatabases();
  await cluster.query('drop table emptied');
  return { lsn: parseLsn(at[0]!.lsn), rows, tickets };
}

const cases = versions.flatMap(version =>
  chosen.flatMap(name => seeds.map(seed => ({ version, name, seed }))),
);

test.each(cases)(
  'PostgreSQL $version, $name, seed $seed: most changed pages are left as they are - equal to a full restore',
  async ({ version, name, seed }) => {
    await using cluster = await start(version, name);
    const instance = await protect(cluster);
    const changed = await changeMuch(instance, new SettledWorld(cluster, seed), seed);
    const context = await contextOf(instance);
    const rewinding = await planRewind(context, changed.lsn);
    await rewinding.service.stop();
    const truth = await restoreTruth(context, rewinding, instance.path('truth'));
    const options = strict();
    const begun = await beginRewind(context, rewinding, options);
    const { journal } = await finishRewind(begun.run, begun.journal, options);
    // A page of a later time than the log could not be written, and all would be replayed once more.
    const log = await readFile(join(journal.places.safety, 'recovery.log'), 'utf8');
    expect(log).not.toContain('xlog flush request');
    const compared = await compareDirectories(
      truth,
      journal.places,
      rewinding.plan.backup,
      name !== 'no images',
    );
    expect(compared.differences.slice(0, 50)).toEqual([]);
    expect((await visibilityBeyond(journal.places, truth, rewinding.plan.backup)).slice(0, 50)).toEqual([]);
    // Otherwise it proves nothing.
    expect(settledPages(begun.run)).toBeGreaterThan(2000);
    await completeRewind(
      begun.run,
      journal,
      { service: rewinding.service, verifyBeforeOpen: false, onOpen: () => undefined },
      options,
    );
    const client = await cluster.connect();
    await checkVisibility(client);
    expect(await tableFingerprints(client)).toEqual(changed.rows);
    const { rows: tickets } = await client.query<{ last: number }>(sequences);
    for (const [index, { last }] of tickets.entries()) {
      const then = Number(changed.tickets[index]!['last']);
      // A server logs some numbers ahead.
      expect(last).toBeGreaterThanOrEqual(then);
      expect(last).toBeLessThanOrEqual(then + 33 * 5);
    }
    await checkClean(client);
    await checkIndexes(client);
    await client.end();
  },
  300_000,
);

/** Pages that are not replayed up to the checkpoint before the target. */
function settledPages({ work }: RewindRun): number {
  const bytes = work.items.map(item => (item.work.kind === 'patch' ? item.work.settledBytes : 0));
  return bytes.reduce((sum, each) => sum + each, 0) / 8192;
}

async function openRewound(
  { service }: Rewinding,
  run: RewindRun,
  journal: RewindJournal,
  options: RunOptions,
): Promise<void> {
  const opening = { service, verifyBeforeOpen: false, onOpen: () => undefined };
  await completeRewind(run, journal, opening, options);
}

test('rewound with settled pages, opened, used and given up - to the byte what it was before', async () => {
  await using cluster = await start(versions[0]!, chosen[0]!);
  const instance = await protect(cluster);
  const seed = seeds[0]! + 100;
  const world = new SettledWorld(cluster, seed);
  const changed = await changeMuch(instance, world, seed);
  await cluster.stop();
  const context = await contextOf(instance);
  const rewinding = await planRewind(context, changed.lsn);
  const { tablespaceVersionDirectory } = rewinding.plan.backup;
  const live = await findPlaces(cluster.dataDirectory, 'none');
  const before = await snapshotOf(live, tablespaceVersionDirectory);
  const options = strict();
  const begun = await beginRewind(context, rewinding, options);
  expect(settledPages(begun.run)).toBeGreaterThan(2000);
  const { journal } = await finishRewind(begun.run, begun.journal, options);
  await openRewound(rewinding, begun.run, journal, options);
  for (const { gid } of await cluster.query<{ gid: string }>('select gid from pg_prepared_xacts'))
    await cluster.query(`rollback prepared '${gid}'`);
  // Settled pages and others are changed, tables are cut off and written anew, maps of them too.
  await world.readAll();
  await world.change(1, 'all over');
  for (const statement of [
    'update owned set n = n',
    'vacuum full shapes',
    'vacuum (freeze) steady',
    'checkpoint',
  ])
    await cluster.query(statement);
  const client = await cluster.connect();
  await checkVisibility(client);
  await checkIndexes(client);
  await checkClean(client);
  await client.end();
  await goBack({ ...context, whole: context }, begun.journal.places.safety, {
    ...options,
    confirm: async () => undefined,
  });
  const now = await snapshotOf(live, tablespaceVersionDirectory);
  expect(snapshotDifferences(before, now)).toEqual([]);
  await cluster.start();
  const again = await cluster.connect();
  await checkVisibility(again);
  await checkIndexes(again);
  await checkClean(again);
  await again.end();
});

test('settled pages that are damaged on the disk - the rewind is made again with all of the log, and heals them', async () => {
  await using cluster = await start(versions[0]!, 'plain');
  const instance = await protect(cluster);
  const seed = seeds[0]! + 200;
  const changed = await changeMuch(instance, new SettledWorld(cluster, seed), seed);
  const [row] = await cluster.query<{ path: string }>(`select pg_relation_filepath('texts') as path`);
  await cluster.stop();
  const context = await contextOf(instance);
  const rewinding = await planRewind(context, changed.lsn);
  const truth = await restoreTruth(context, rewinding, instance.path('truth'));
  const notes: string[] = [];
  const options = {
    signal: new AbortController().signal,
    onEvent: (event: OperationEvent) => {
      if (event.type === 'note') notes.push(event.message);
    },
  };
  const begun = await beginRewind(context, rewinding, options);
  expect(settledPages(begun.run)).toBeGreaterThan(2000);
  await using file = await open(join(cluster.dataDirectory, row!.path), 'r+');
  await file.write(Buffer.from([0xa5]), 0, 1, 20 * 8192 + 8000);
  const { journal } = await finishRewind(begun.run, begun.journal, options);
  expect(notes.join('\n')).toContain('once more, with all of the log');
  const compared = await compareDirectories(truth, journal.places, rewinding.plan.backup);
  expect(compared.differences.slice(0, 50)).toEqual([]);
  expect(await visibilityBeyond(journal.places, truth, rewinding.plan.backup)).toEqual([]);
});

test('a visibility map that was changed long after the target - the rewound server can write it', async () => {
  await using cluster = await start(versions[0]!, 'plain');
  const instance = await protect(cluster);
  await cluster.query(
    `create table calm as select n id, repeat('c', 300) note from generate_series(1, 9000) n`,
  );
  await cluster.query('vacuum calm');
  await instance.backup();
  await cluster.query('update calm set note = upper(note) where id % 100 = 1');
  await cluster.query('vacuum calm');
  await cluster.query('select pg_switch_wal()');
  await cluster.query('checkpoint');
  await cluster.query('create table behind as select 1 id');
  const [row] = await cluster.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  await cluster.query(
    `create table much as select n id, repeat('m', 500) note from generate_series(1, 40000) n`,
  );
  await cluster.query('update calm set note = lower(note) where id between 8000 and 8040');
  await cluster.query('vacuum calm');
  const context = await contextOf(instance);
  const rewinding = await planRewind(context, parseLsn(row!.lsn));
  await rewinding.service.stop();
  const options = strict();
  const begun = await beginRewind(context, rewinding, options);
  expect(begun.run.work.amount.pagesSettled).toBeGreaterThan(50);
  const { journal } = await finishRewind(begun.run, begun.journal, options);
  await openRewound(rewinding, begun.run, journal, options);
  // One replay was enough, and the log was thinned for it.
  const log = await readFile(join(journal.places.safety, 'recovery.log'), 'utf8');
  expect(log.split('redo starts at').length).toBe(2);
  await cluster.query('create extension pg_visibility');
  const [map] = await cluster.query<{ visible: number }>(
    `select all_visible::int as visible from pg_visibility_map_summary('calm')`,
  );
  expect(map!.visible).toBeGreaterThan(200);
  // Takes bits away.
  await cluster.query('update calm set note = note where id % 50 = 7');
  await cluster.query('checkpoint');
  await cluster.stop();
});
