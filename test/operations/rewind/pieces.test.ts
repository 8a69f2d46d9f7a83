import { expect, test } from 'vitest';
import { inPackOrder, openedBytes, splitByFrames } from '../../../src/operations/rewind/pieces.ts';
import type { Piece } from '../../../src/operations/rewind/rewind-protocol.ts';

const MIB = 1024 * 1024;

/** A page of a frame of a MiB. */
function page(pack: number, frame: number, number: number): Piece {
  const start = number * 8192;
  return {
    chunk: [MIB, pack, frame, frame * 100_000, 90_000, MIB, 0, ''],
    start,
    at: frame * MIB + start,
    length: 8192,
  };
}

test('pages of few and of many frames - what is unpacked counts, each frame once', () => {
  expect(openedBytes([])).toBe(0);
  expect(openedBytes([page(0, 0, 1), page(0, 0, 5), page(0, 0, 9)])).toBe(MIB);
  expect(openedBytes([page(0, 0, 1), page(0, 1, 1), page(1, 1, 1)])).toBe(3 * MIB);
});

test('single pages all over a file - several lists, about as much to be unpacked for each, none left out', () => {
  const pieces = Array.from({ length: 100 }, (_, frame) => page(0, frame, 3));
  const lists = splitByFrames(pieces, 16 * MIB);
  expect(lists.map(openedBytes)).toEqual([16, 16, 16, 16, 16, 16, 4].map(frames => frames * MIB));
  expect(lists.flat()).toEqual(pieces);
});

test('many pages of each frame - all of a frame are in one list, however many there are', () => {
  const pieces = [0, 1, 2].flatMap(frame =>
    Array.from({ length: 128 }, (_, number) => page(0, frame, number)),
  );
  const lists = splitByFrames(pieces, MIB);
  expect(lists.map(list => list.length)).toEqual([128, 128, 128]);
  expect(splitByFrames([], MIB)).toEqual([]);
});

test('cut up by incremental backups - in the order of the packs a frame comes once', () => {
  const pieces = [page(0, 0, 1), page(1, 0, 2), page(0, 0, 3), page(1, 0, 4), page(0, 1, 1)];
  const sorted = inPackOrder(pieces);
  expect(sorted).toEqual([pieces[0], pieces[2], pieces[4], pieces[1], pieces[3]]);
  expect(openedBytes(sorted)).toBe(3 * MIB);
  expect(splitByFrames(sorted, MIB)).toHaveLength(3);
});
