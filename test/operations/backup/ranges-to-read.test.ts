import fc from 'fast-check';
import { expect, test } from 'vitest';
import { patchChunks } from '../../../src/operations/backup/patch-chunks.ts';
import { appendRange, type Ranges, rangeBytes, splitRanges } from '../../../src/operations/backup/ranges.ts';
import { rangesToRead } from '../../../src/operations/backup/ranges-to-read.ts';
import { type ChunkList, ChunkListBuilder, chunksOf } from '../../../src/repository/chunk-list.ts';
import { seeded } from '../../support/seeded.ts';

const MIB = 1024 * 1024;
const BLOCK = 8192;

let frames = 0;
/** The file as an incremental backup stores it: what was read goes into frames of at most 1 MiB. */
function store(before: ChunkList, ranges: Ranges, sizeBytes: number): ChunkList {
  const lists = splitRanges(ranges, MIB);
  const builder = new ChunkListBuilder();
  for (const raw of lists.map(rangeBytes)) {
    frames += 1;
    builder.add([raw, frames >> 4, frames & 15, 40, raw, raw, 0, '']);
  }
  return patchChunks(before, { frames: builder.list(), ranges: lists }, sizeBytes);
}

const empty = new ChunkListBuilder().list();
const full = (sizeBytes: number): ChunkList => store(empty, [0, sizeBytes], sizeBytes);
function pages(numbers: readonly number[]): Ranges {
  const ranges: number[] = [];
  for (const page of numbers.toSorted((a, b) => a - b)) appendRange(ranges, page * BLOCK, BLOCK);
  return ranges;
}
const read = (parent: ChunkList, changed: Ranges, sizeBytes: number): Ranges =>
  rangesToRead({ sizeBytes, blockSize: BLOCK, parent }, changed);

test('changed pages of a file that kept its size - they alone', () => {
  const parent = full(3 * MIB);
  expect(read(parent, pages([]), 3 * MIB)).toEqual([]);
  expect(read(parent, pages([1, 2, 300]), 3 * MIB)).toEqual([BLOCK, 2 * BLOCK, 300 * BLOCK, BLOCK]);
});

test('a file that grew or shrank - what the parent does not have; pages behind the end are not asked for', () => {
  const parent = full(10 * BLOCK);
  expect(read(parent, pages([1]), 12 * BLOCK)).toEqual([BLOCK, BLOCK, 10 * BLOCK, 2 * BLOCK]);
  expect(read(parent, pages([1, 8, 400]), 5 * BLOCK)).toEqual([BLOCK, BLOCK]);
  expect(read(empty, pages([]), 2 * BLOCK)).toEqual([0, 2 * BLOCK]);
  expect(read(parent, pages([3]), 0)).toEqual([]);
});

test('a page that is there in part only, then or now - is read', () => {
  expect(read(full(10 * BLOCK + 100), pages([]), 12 * BLOCK)).toEqual([10 * BLOCK, 2 * BLOCK]);
  expect(read(full(10 * BLOCK + 100), pages([]), 10 * BLOCK + 100)).toEqual([10 * BLOCK, 100]);
  expect(read(full(12 * BLOCK), pages([]), 10 * BLOCK + 100)).toEqual([10 * BLOCK, 100]);
});

test('a frame of which little is used any more - its rest is copied anew', () => {
  const parent = full(2 * MIB);
  const rest = [120, 121, 122, 123, 124, 125, 126, 127];
  const changed = Array.from({ length: 120 }, (_, page) => page);
  // 8 of 128 pages are less than an eighth, 16 are not.
  expect(read(parent, pages(changed), 2 * MIB)).toEqual([0, MIB]);
  expect(read(parent, pages(changed.slice(0, 112)), 2 * MIB)).toEqual([0, 112 * BLOCK]);
  const kept = store(parent, read(parent, pages(rest), 2 * MIB), 2 * MIB);
  expect(read(kept, pages([]), 2 * MIB)).toEqual([]);
});

test('1 MiB of a file that lies in too many frames - is copied anew, its neighbours are not', () => {
  let pieces = full(3 * MIB);
  for (let page = 128; page < 128 + 63; page += 1) pieces = store(pieces, pages([page]), 3 * MIB);
  expect(read(pieces, pages([250]), 3 * MIB)).toEqual([250 * BLOCK, BLOCK]);
  pieces = store(pieces, pages([250]), 3 * MIB);
  expect(read(pieces, pages([1]), 3 * MIB)).toEqual([BLOCK, BLOCK, MIB, MIB]);
});

test('three hundred incremental backups in a row - a restore opens a bounded number of bytes and frames', () => {
  const hot = fc.record({ seed: fc.integer(), hotPages: fc.integer({ min: 1, max: 60 }) });
  fc.assert(
    fc.property(hot, ({ seed, hotPages }) => {
      const sizeBytes = 4 * MIB;
      const count = sizeBytes / BLOCK;
      const next = seeded(seed);
      let pieces = full(sizeBytes);
      let storedBytes = 0;
      let changedBytes = 0;
      for (let round = 0; round < 300; round += 1) {
        // Pages that change every time, and one that changes now and never again: each frame stays in use for one page.
        const changed = new Set([
          ...Array.from({ length: hotPages }, (_, page) => page),
          next(count),
          next(count),
        ]);
        const ranges = read(pieces, pages([...changed]), sizeBytes);
        changedBytes += changed.size * BLOCK;
        storedBytes += rangeBytes(ranges);
        pieces = store(pieces, ranges, sizeBytes);
      }
      const chunks = chunksOf(pieces);
      const used = new Map(chunks.map(([, pack, number, , , raw]) => [`${pack}/${number}`, raw]));
      const openedBytes = [...used.values()].reduce((sum, raw) => sum + raw, 0);
      expect(openedBytes).toBeLessThan(8 * sizeBytes);
      expect(used.size).toBeLessThanOrEqual(((64 + 1) * sizeBytes) / MIB);
      expect(storedBytes).toBeLessThan(4 * changedBytes);
      expect(chunks.reduce((sum, [length]) => sum + length, 0)).toBe(sizeBytes);
    }),
    { numRuns: 12 },
  );
});
