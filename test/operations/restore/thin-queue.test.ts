import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ThinQueue } from '../../../src/operations/restore/thin-queue.ts';

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'aishell-thin-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const signal = new AbortController().signal;

/** A queue for files 2 to 5 of 8 bytes, whose thinner marks each with its turn. */
function queueOf(): {
  readonly queue: ThinQueue;
  readonly written: number[];
  expect(index: number): Promise<SharedArrayBuffer>;
  arrived(index: number): boolean;
} {
  const written: number[] = [];
  let turn = 0;
  const thinner = {
    counts: { thinned: 0, records: 0 },
    thin: (segment: Uint8Array) => {
      turn += 1;
      segment[0] = turn;
    },
  };
  const queue = new ThinQueue({
    ...{ thinner, first: 2, end: 6, segmentBytes: 8, workers: 1, owner: null },
    onWritten: fed => written.push(fed.index),
  });
  const placeOf = (index: number): { aside: string; target: string; reuse: null } => ({
    aside: join(directory, `aside-${index}`),
    target: join(directory, String(index)),
    reuse: null,
  });
  return {
    queue,
    written,
    expect: index => queue.expect(index, placeOf(index), signal),
    arrived: index => queue.arrived({ index, bytes: 8, workMs: 1, waitedMs: 1 }),
  };
}

test('files that arrive out of their order - are thinned and seen in it; there is room for two at once', async () => {
  const { queue, written, expect: expectFile, arrived } = queueOf();
  expect([1, 2, 5, 6].map(index => queue.takes(index))).toEqual([false, true, true, false]);
  await expectFile(2);
  await expectFile(3);
  let hasRoom = false;
  const third = expectFile(4).then(() => {
    hasRoom = true;
  });
  expect(arrived(3)).toBe(true);
  await Promise.resolve();
  expect([readdirSync(directory), hasRoom]).toEqual([[], false]);
  expect(arrived(2)).toBe(true);
  await third;
  expect(written).toEqual([2, 3]);
  expect([2, 3].map(index => readFileSync(join(directory, String(index)))[0])).toEqual([1, 2]);
  expect(arrived(9)).toBe(false);
  await expectFile(5);
  expect([arrived(5), arrived(4)]).toEqual([true, true]);
  expect(written).toEqual([2, 3, 4, 5]);
  expect(readdirSync(directory)).toEqual(['2', '3', '4', '5']);
});

test('a queue that is stopped - says what was thinned, once; what comes then is seen as it is, whenever it comes', async () => {
  const { queue, written, expect: expectFile, arrived } = queueOf();
  await expectFile(2);
  expect(arrived(2)).toBe(true);
  for (const index of [3, 4]) new Uint8Array(await expectFile(index)).fill(0);
  expect(arrived(4)).toBe(true);
  expect(queue.stop()).toEqual([2]);
  expect(written).toEqual([2, 4]);
  expect(arrived(3)).toBe(true);
  expect(written).toEqual([2, 4, 3]);
  expect([3, 4].map(index => readFileSync(join(directory, String(index)))[0])).toEqual([0, 0]);
  expect(queue.stop()).toEqual([]);
  expect(queue.takes(5)).toBe(false);
});

test('nobody gives a room back - whoever waits for one hears that it is over', async () => {
  const { queue, expect: expectFile } = queueOf();
  await expectFile(2);
  await expectFile(3);
  const over = new AbortController();
  const waiting = queue.expect(4, { aside: '', target: '', reuse: null }, over.signal);
  over.abort(new Error('it is over'));
  await expect(waiting).rejects.toThrow('it is over');
});
