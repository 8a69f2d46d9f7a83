import { expect, test } from 'vitest';
import type { OperationEvent } from '../../src/base/events.ts';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import { completeRewind } from '../../src/operations/rewind/complete-rewind.ts';
import { goBack } from '../../src/operations/rewind/go-back.ts';
import { findPlaces } from '../../src/operations/rewind/places.ts';
import { beginRewind } from '../../src/operations/rewind/rewind.ts';
import { finishRewind } from '../../src/operations/rewind/rewind-run.ts';
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
  lz4: { settings: { wal_compression: 'lz4' } },
  zstd: { settings: { wal_compression: 'zstd' } },
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
    const compared = await compareDirectories(truth, journal.places, rewinding.plan.backup);
    const { amount } = begun.run.work;
    console.log({ version, name, seed, ...compared, differences: compared.differences.length, ...amount });
    expect(compared.differences.slice(0, 50)).toEqual([]);
    expect((await visibilityBeyond(journal.places, truth, rewinding.plan.backup)).slice(0, 50)).toEqual([]);
    // Otherwise it proves nothing.
    expect(amount.pagesSettled).toBeGreaterThan(2000);
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
