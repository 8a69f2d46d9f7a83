import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { OperationEvent } from '../../../src/base/events.ts';
import { decideBackup } from '../../../src/operations/recovery-time/decide-backup.ts';
import { describeOutlook } from '../../../src/operations/recovery-time/describe-outlook.ts';
import {
  estimateRecovery,
  type RecoveryEstimate,
  type RecoveryNeeds,
} from '../../../src/operations/recovery-time/estimate-recovery.ts';
import { keepObjective } from '../../../src/operations/recovery-time/keep-objective.ts';
import type { RecoveryOutlook } from '../../../src/operations/recovery-time/recovery-outlook.ts';
import {
  addRun,
  type RecoveryWork,
  type SpeedRecord,
  speedOf,
} from '../../../src/operations/recovery-time/recovery-speed.ts';
import { readSpeeds, recordSpeeds } from '../../../src/operations/recovery-time/speed-file.ts';
import { LOG_FED, watchRecovery } from '../../../src/operations/recovery-time/watch-recovery.ts';
import { temporaryDirectory } from '../../support/temp.ts';

/** A machine that replays 100 MB, restores 200 MB and writes back 50 MB in a second. */
const run: RecoveryWork = {
  replay: { bytes: 1e9, seconds: 10 },
  fetch: { bytes: 1e9, seconds: 2 },
  restore: { bytes: 4e9, seconds: 20 },
  rewrite: { bytes: 1e8, seconds: 2 },
  rewriteShare: { rewrittenBytes: 1e8, logBytes: 1e9 },
  fixedSeconds: 3,
};
const measured: SpeedRecord = { ...run, measuredAt: '2026-11-22T10:00:00.000Z' };

function needs(logBytes: number, whyNotRewind: string | null = null, sizeBytes = 20e9): RecoveryNeeds {
  const backup = { id: 'b', startLsn: '0/1000000', stopTime: '2026-11-22T09:00:00Z', sizeBytes };
  return { backup, logBytes, whyNotRewind };
}

test('measured speeds - the estimate is what they add up to, and says that it is measured', () => {
  const estimate = estimateRecovery(needs(2e9), speedOf(measured));
  // 3 s, 2 GB of log at 100 MB/s, a tenth of it written back at 50 MB/s.
  expect(estimate).toMatchObject({ method: 'rewind', seconds: 27, floorSeconds: 3, confidence: 'measured' });
  expect(estimate.lostServerSeconds).toBe(3 + 100 + 20);
  expect(estimate.secondsPerLogByte * 1e9).toBeCloseTo(12);
});

test('changed pages cannot be told - everything is restored, and the reason is said', () => {
  const estimate = estimateRecovery(needs(2e9, 'wal_level is minimal'), speedOf(measured));
  expect(estimate).toMatchObject({ method: 'restore', seconds: 123, floorSeconds: 103 });
  expect(estimate.whyNotRewind).toBe('wal_level is minimal');
});

test('a small database with much log - is restored whole, as the command would', () => {
  const estimate = estimateRecovery(needs(100e9, null, 1e9), speedOf(measured));
  expect(estimate.method).toBe('restore');
  expect(estimate.seconds).toBe(estimate.lostServerSeconds);
});

test('a machine that has recovered nothing yet - careful guesses, called so', () => {
  const estimate = estimateRecovery(needs(2e9), speedOf(null));
  expect(estimate.confidence).toBe('guessed');
  expect(estimate.seconds).toBeGreaterThan(27);
  const partly = estimateRecovery(needs(2e9), speedOf({ replay: run.replay!, measuredAt: 'x' }));
  expect(partly.confidence).toBe('partly measured');
});

test('any log and any speeds - more log never takes less, and a backup always helps or changes nothing', () => {
  const work = fc.record({
    bytes: fc.double({ min: 1e6, max: 1e12, noNaN: true }),
    seconds: fc.double({ min: 0.01, max: 1e5, noNaN: true }),
  });
  const record = fc.record({ replay: work, restore: work, rewrite: work, measuredAt: fc.constant('x') });
  const bytes = fc.double({ min: 0, max: 1e12, noNaN: true });
  fc.assert(
    fc.property(record, bytes, bytes, fc.boolean(), (speeds, one, more, canRewind) => {
      const speed = speedOf(speeds);
      const why = canRewind ? null : 'no';
      const [less, all] = [
        estimateRecovery(needs(one, why), speed),
        estimateRecovery(needs(one + more, why), speed),
      ];
      expect(all.seconds).toBeGreaterThanOrEqual(less.seconds);
      expect(less.floorSeconds).toBeLessThanOrEqual(less.seconds);
      expect(less.seconds).toBeLessThanOrEqual(less.lostServerSeconds);
    }),
  );
});

test('runs of a machine - newer ones weigh more, tiny ones nothing', () => {
  const at = new Date('2026-11-23T00:00:00Z');
  const twice = addRun(measured, { replay: { bytes: 1e9, seconds: 5 } }, at);
  expect(speedOf(twice).replayBytesPerSecond).toBeCloseTo(1.5e9 / 10);
  expect(twice.restore).toEqual(run.restore);
  expect(twice.measuredAt).toBe(at.toISOString());
  expect(addRun(measured, { replay: { bytes: 1e6, seconds: 5 } }, at).replay).toEqual(run.replay);
  expect(addRun(measured, { fixedSeconds: 5 }, at).fixedSeconds).toBe(4);
  expect(addRun(null, run, at)).toMatchObject(run);
});

test('the record on disk - is kept per instance; lost, damaged or with nowhere to be it counts as none', async () => {
  await using directory = await temporaryDirectory();
  const state = join(directory.path, 'state');
  expect(await readSpeeds(state, 'shop')).toBeNull();
  await recordSpeeds(state, 'shop', run);
  await recordSpeeds(state, 'shop', { replay: { bytes: 1e9, seconds: 5 } });
  expect(speedOf(await readSpeeds(state, 'shop')).replayBytesPerSecond).toBeCloseTo(1.5e8);
  expect(await readSpeeds(state, 'other')).toBeNull();
  const path = join(state, 'speeds', 'shop.json');
  const written = await readFile(path, 'utf8');
  for (const bad of ['', '{', '[]', 'null', '{"replay":{"bytes":1,"seconds":1}}']) {
    await writeFile(path, bad);
    expect(await readSpeeds(state, 'shop'), bad).toBeNull();
  }
  await writeFile(path, written.replace(/"seconds": [\d.]+/, '"seconds": "fast"'));
  expect((await readSpeeds(state, 'shop'))?.replay).toBeUndefined();
  expect(await readSpeeds(null, 'shop')).toBeNull();
  await recordSpeeds(null, 'shop', run);
  await mkdir(join(directory.path, 'file'), { recursive: true });
  await writeFile(join(directory.path, 'file', 'speeds'), '');
  await recordSpeeds(join(directory.path, 'file'), 'shop', run);
});

const calm = { logBytesPerSecond: 0, backupSeconds: 10, everySeconds: 30 };

function estimateOf(logBytes: number, whyNotRewind: string | null = null): RecoveryEstimate {
  return estimateRecovery(needs(logBytes, whyNotRewind), speedOf(measured));
}

test('the objective comes near - a backup before it is passed, by as much as the log grows meanwhile', () => {
  expect(decideBackup(estimateOf(2e9), 60, calm).action).toBe('none');
  expect(decideBackup(estimateOf(4.2e9), 60, calm).action).toBe('none');
  expect(decideBackup(estimateOf(4.4e9), 60, calm).action).toBe('incremental');
  // In 45 s this writes 2.25 GB, which cost 27 s.
  expect(decideBackup(estimateOf(2e9), 60, { ...calm, logBytesPerSecond: 50e6 }).action).toBe('none');
  expect(decideBackup(estimateOf(2.4e9), 60, { ...calm, logBytesPerSecond: 50e6 }).action).toBe(
    'incremental',
  );
});

test('no backup can keep the objective - none is taken, and it is said', () => {
  const decision = decideBackup(estimateOf(2e9, 'wal_level is minimal'), 60, calm);
  expect(decision).toMatchObject({ action: 'unreachable', reason: expect.stringContaining('1m 43s') });
});

test('a log that grows faster than backups are made - no backup after backup', () => {
  const flood = { ...calm, logBytesPerSecond: 1e9 };
  expect(decideBackup(estimateOf(1e8), 60, flood).action).toBe('none');
  expect(decideBackup(estimateOf(1e9), 60, flood).action).toBe('incremental');
});

test('estimate and objective - in one line', () => {
  const outlook: RecoveryOutlook = {
    instance: 'shop',
    estimate: estimateOf(2e9),
    objectiveSeconds: 60,
    state: 'kept',
    measuredAt: 'x',
  };
  expect(describeOutlook(outlook)).toBe('about 27.0s of at most 1m 0s (measured on this machine)');
  expect(describeOutlook({ ...outlook, estimate: null })).toBe('unknown: there is no backup');
});

test('kept by an agent - a backup each time the log has grown too long, through failures; a warning once', async () => {
  const stop = new AbortController();
  const events: OperationEvent[] = [];
  let [logBytes, backups, rounds] = [0, 0, 0];
  await keepObjective(
    {
      everyMs: 1,
      outlook: async () => {
        rounds += 1;
        if (rounds === 40) stop.abort();
        if (rounds > 10 && rounds < 15) throw new Error('the storage is away');
        logBytes += 0.5e9;
        const estimate = estimateOf(logBytes);
        return { instance: 'shop', estimate, objectiveSeconds: 60, state: 'kept', measuredAt: null };
      },
      backUp: async () => {
        backups += 1;
        logBytes = 0;
      },
    },
    { signal: stop.signal, onEvent: event => void events.push(event) },
  );
  expect(backups).toBeGreaterThan(2);
  const warnings = events.filter(event => event.type === 'note' && event.level === 'warning');
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toMatchObject({ message: expect.stringContaining('the storage is away') });
});

test('a recovery that is watched - its steps by what they grow with, without the time a person took to answer', async () => {
  const told: OperationEvent[] = [];
  const watch = watchRecovery(event => void told.push(event));
  const step = (id: string, seconds: number): void =>
    watch.onEvent({ type: 'step', step: id, title: id, state: 'done', seconds });
  await watch.askPerson(() => sleep(200));
  step('restore-files', 5);
  step('pages', 2);
  step('check-rows', 1);
  step('replay', 10);
  watch.onEvent({
    type: 'facts',
    topic: LOG_FED,
    facts: { files: 3, bytes: 4e9, workMs: 1, waitedMs: 2000 },
  });
  await sleep(50);
  step('start', 0.1);
  const work = watch.work({ logBytes: 1e9, restoredBytes: 4e9, rewrittenBytes: null });
  expect(work).toEqual({
    replay: { bytes: 1e9, seconds: 10 },
    fetch: { bytes: 4e9, seconds: 2 },
    restore: { bytes: 4e9, seconds: 8 },
    // The steps say more than has passed.
    fixedSeconds: 0,
  });
  const rewound = watch.work({ logBytes: 1e9, restoredBytes: null, rewrittenBytes: 5e8 });
  expect(rewound).toMatchObject({
    rewrite: { bytes: 5e8, seconds: 8 },
    rewriteShare: { rewrittenBytes: 5e8, logBytes: 1e9 },
  });
  expect(told.map(event => event.type)).toEqual(['step', 'step', 'step', 'step', 'step']);
  const quick = watchRecovery(() => undefined);
  await quick.askPerson(() => sleep(300));
  await sleep(100);
  const fixed = quick.work({ logBytes: 0, restoredBytes: 0, rewrittenBytes: null })?.fixedSeconds ?? 0;
  expect(fixed).toBeGreaterThan(0.09);
  expect(fixed).toBeLessThan(0.3);
  quick.onEvent({ type: 'step', step: 'resume', title: '', state: 'done', seconds: 1 });
  expect(quick.work({ logBytes: 0, restoredBytes: 0, rewrittenBytes: null })).toBeNull();
});
