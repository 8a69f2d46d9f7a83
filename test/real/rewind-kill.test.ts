import { spawn } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { formatLsn, parseLsn } from '../../src/engines/postgres/lsn.ts';
import { findUnfinished, type RewindJournal } from '../../src/operations/rewind/journal.ts';
import { findPlaces, livePlace, type Places } from '../../src/operations/rewind/places.ts';
import { readSavedState } from '../../src/operations/rewind/saved-state.ts';
import { protect, type TestInstance } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { contextOf, planRewind } from '../support/rewind-plan.ts';
import {
  compareDirectories,
  restoreTruth,
  snapshotDifferences,
  snapshotOf,
} from '../support/rewind-truth.ts';
import {
  changeDatabases,
  changeWorld,
  makeWorld,
  openTransactions,
  worldSettings,
} from '../support/rewind-world.ts';

const child = fileURLToPath(new URL('../support/rewind-child.ts', import.meta.url));
/** The first five at each step, the others at random moments. A wider run sets more. */
const ROUNDS = Number(process.env['AISHELL_REWIND_KILLS'] ?? 5);

interface Ended {
  readonly done: boolean;
  readonly seconds: number;
  readonly output: string;
}

/** Runs the child; kills it a moment after a step began, or after so many milliseconds. */
async function run(
  instance: TestInstance,
  args: readonly string[],
  kill: { readonly step?: string; readonly afterMs: number } | null,
): Promise<Ended> {
  const startedAt = performance.now();
  const process_ = spawn(process.execPath, [child, instance.configFile, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let killing = false;
  const killSoon = (): void => {
    if (killing || kill === null) return;
    killing = true;
    setTimeout(() => process_.kill('SIGKILL'), kill.afterMs);
  };
  const hear = (text: Buffer): void => {
    output += text.toString();
    if (kill?.step !== undefined && output.includes(`"step":"${kill.step}"`)) killSoon();
  };
  process_.stdout.on('data', hear);
  process_.stderr.on('data', hear);
  if (kill !== null && kill.step === undefined) killSoon();
  await new Promise(resolve => process_.once('close', resolve));
  const done = output.includes('"type":"done"');
  if (!done && !killing) throw new Error(`the child failed:\n${output.slice(-4000)}`);
  return { done, seconds: (performance.now() - startedAt) / 1000, output };
}

test('killed anywhere, then gone on with or undone - equal to a full restore, or to the byte what it was', async () => {
  await using cluster = await startTestCluster({ version: 18, settings: worldSettings });
  const instance = await protect(cluster);
  await makeWorld(cluster);
  await instance.backup();
  await changeWorld(cluster, 9);
  // The base is an incremental one: its pages lie in frames of several backups, here and there.
  const base = await instance.backup(['--type', 'incremental']);
  expect(base.backup?.type).toBe('incremental');
  await changeWorld(cluster, 1);
  await changeDatabases(cluster, 1);
  const open = await openTransactions(cluster, 1_000_000);
  const [row] = await cluster.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  const lsn = parseLsn(row!.lsn);
  await open.end('commit');
  await changeWorld(cluster, 2);
  await changeDatabases(cluster, 2);
  await cluster.stop();
  const context = await contextOf(instance);
  const rewinding = await planRewind(context, lsn);
  const { backup } = rewinding.plan;
  const truth = await restoreTruth(context, rewinding, instance.path('truth'));
  const { dataDirectory } = cluster;
  const live = await findPlaces(dataDirectory, 'none');
  const before = await snapshotOf(live, backup.tablespaceVersionDirectory);
  const expectOld = async (what: string): Promise<void> => {
    const now = await snapshotOf(live, backup.tablespaceVersionDirectory);
    expect(snapshotDifferences(before, now), what).toEqual([]);
    expect(await findUnfinished(dataDirectory), what).toBeNull();
  };
  const expectTruth = async (what: string): Promise<void> => {
    const journal = await findUnfinished(dataDirectory);
    expect(journal?.phase, what).toBe('flushed');
    const { differences } = await compareDirectories(truth, journal!.places, backup);
    expect(differences, what).toEqual([]);
  };
  const whole = await run(instance, ['begin', dataDirectory, formatLsn(lsn)], null);
  await expectTruth('never killed');
  await run(instance, ['back', dataDirectory], null);
  await expectOld('never killed');

  const steps = ['keep', 'rewrite', 'replay', 'pages', 'sync'];
  for (let round = 0; round < ROUNDS; round += 1) {
    const step = steps[round % steps.length]!;
    const kill =
      round < steps.length
        ? { step, afterMs: Math.random() * 60 }
        : { afterMs: 300 + Math.random() * whole.seconds * 1000 };
    const what = `round ${round}, ${JSON.stringify(kill)}`;
    let ended = await run(instance, ['begin', dataDirectory, formatLsn(lsn)], kill);
    const phases = [(await findUnfinished(dataDirectory))?.phase];
    // A few more kills while it is gone on with.
    for (let tries = 0; !ended.done && phases.at(-1) !== undefined && tries < round % 3; tries += 1) {
      ended = await run(instance, ['resume', dataDirectory], { afterMs: 300 + Math.random() * 1500 });
      phases.push((await findUnfinished(dataDirectory))?.phase);
    }
    // Killed before there was anything to go on with: nothing was changed.
    if (phases.at(-1) === undefined) {
      await expectOld(what);
      continue;
    }
    if (round % 2 === 0) {
      if (!ended.done) await run(instance, ['resume', dataDirectory], null);
      await expectTruth(what);
    }
    // Going back is killed as well, and begun again.
    const back = await run(instance, ['back', dataDirectory], { afterMs: 300 + Math.random() * 500 });
    if (!back.done && (await findUnfinished(dataDirectory)) !== null)
      await run(instance, ['back', dataDirectory], null);
    await expectOld(what);
  }
  await expectPowerLoss(instance, { live, lsn, expectTruth });
  await run(instance, ['back', dataDirectory], null);
  await expectOld('after a power loss');
}, 900_000);

/** What was not flushed is lost: pages that the rewind or the replay has written are anything. */
async function expectPowerLoss(
  instance: TestInstance,
  world: {
    readonly live: Places;
    readonly lsn: bigint;
    readonly expectTruth: (what: string) => Promise<void>;
  },
): Promise<void> {
  const { dataDirectory } = world.live;
  await run(instance, ['begin', dataDirectory, formatLsn(world.lsn)], { step: 'sync', afterMs: 0 });
  const journal = await findUnfinished(dataDirectory);
  if (journal?.phase !== 'recovered')
    return await run(instance, ['back', dataDirectory], null).then(() => expectPowerLoss(instance, world));
  await wreck(journal);
  await run(instance, ['resume', dataDirectory], null);
  await world.expectTruth('after a power loss');
}

async function wreck(journal: RewindJournal): Promise<void> {
  const path = join(journal.places.safety, 'rewind.json');
  await writeFile(path, (await readFile(path, 'utf8')).replace(journal.bootId, 'another boot'));
  const { map, live } = await readSavedState(journal.places.safety);
  for (const [file] of live.files) {
    const match = /^base\/(\d+)\/(\d+)$/.exec(file);
    const changes = match === null ? undefined : map.forks.get(`1663/${match[1]}/${match[2]}/0`);
    if (changes === undefined) continue;
    const place = livePlace(journal.places, file);
    const bytes = await readFile(place).catch(() => null);
    if (bytes === null) continue;
    for (const block of changes.blocks)
      if (Math.random() < 0.3 && (block + 1) * 8192 <= bytes.length)
        bytes.fill(Math.random() < 0.5 ? 0 : 0xa5, block * 8192, (block + 1) * 8192);
    await writeFile(place, bytes);
  }
}
