import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { mapBounded } from '../../src/base/bounded.ts';

test('any items and limit - all results in the order of the items, never more at once than the limit', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(3)), fc.integer({ min: 1, max: 8 }), async (waits, limit) => {
      let [running, most] = [0, 0];
      const results = await mapBounded(waits, limit, async wait => {
        running += 1;
        most = Math.max(most, running);
        for (let turn = 0; turn < wait; turn += 1) await null;
        running -= 1;
        return wait * 2;
      });
      expect(results).toEqual(waits.map(wait => wait * 2));
      expect(most).toBeLessThanOrEqual(limit);
    }),
    { numRuns: 100 },
  );
});

test('calls that wait for each other - as many at once as the limit says', async () => {
  const met = Promise.withResolvers<void>();
  let running = 0;
  await mapBounded([1, 2, 3, 4], 4, async () => {
    running += 1;
    if (running === 4) met.resolve();
    await met.promise;
  });
  expect(running).toBe(4);
});

test('an endless source - pulled only as far as there is room, and closed', async () => {
  let [pulled, closed] = [0, false];
  async function* source() {
    try {
      for (;;) yield pulled++;
    } finally {
      closed = true;
    }
  }
  const failure = new Error('the tenth');
  const work = mapBounded(source(), 3, async item => {
    await sleep(1);
    if (item === 10) throw failure;
  });
  await expect(work).rejects.toBe(failure);
  expect(closed).toBe(true);
  expect(pulled).toBeLessThan(16);
});

test('one call fails - its own error, the others are told to stop and waited for', async () => {
  const failure = new Error('broken');
  const ended: number[] = [];
  const work = mapBounded([1, 2, 3, 4, 5], 3, async (item, signal) => {
    if (item === 2) {
      await sleep(5);
      throw failure;
    }
    await new Promise<void>(resolve => signal.addEventListener('abort', () => setTimeout(resolve, 20)));
    expect(signal.reason).toBe(failure);
    ended.push(item);
    throw new Error('a later one');
  });
  await expect(work).rejects.toBe(failure);
  expect(ended).toEqual([1, 3]);
});

test('a call fails with undefined - still a failure', async () => {
  const work = mapBounded([1], 1, async () => await Promise.reject(undefined));
  await expect(work).rejects.toBeDefined();
});

test('the source fails - its error, after the running calls have ended', async () => {
  const failure = new Error('no more');
  let ended = false;
  async function* source() {
    yield 1;
    throw failure;
  }
  const work = mapBounded(source(), 2, async () => {
    await sleep(20);
    ended = true;
  });
  await expect(work).rejects.toBe(failure);
  expect(ended).toBe(true);
});

test('aborted while the source hangs - the reason, at once', async () => {
  const controller = new AbortController();
  const reason = new Error('stopped');
  async function* source() {
    yield 1;
    await new Promise(() => undefined);
  }
  setTimeout(() => controller.abort(reason), 10);
  await expect(mapBounded(source(), 2, async item => item, controller.signal)).rejects.toBe(reason);
});

test('aborted before - the reason, and nothing is called', async () => {
  const reason = new Error('stopped');
  const called: number[] = [];
  const work = mapBounded([1], 1, async item => called.push(item), AbortSignal.abort(reason));
  await expect(work).rejects.toBe(reason);
  expect(called).toEqual([]);
});

test.each([0, -1, 1.5, Number.NaN])('the limit %d - refused as a bug', async limit => {
  await expect(mapBounded([], limit, async () => 1)).rejects.toThrow('mistake in aishell');
});
