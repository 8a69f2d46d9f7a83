import fc from 'fast-check';
import { expect, test } from 'vitest';
import { patchChunks, type StoredChunks } from '../../../src/operations/backup/patch-chunks.ts';
import type { Ranges } from '../../../src/operations/backup/ranges.ts';
import { type ChunkList, ChunkListBuilder, chunksOf } from '../../../src/repository/chunk-list.ts';

/** Parts of frames: which frame of which pack, how long its body is, from where on, and how much. */
type Part = readonly [pack: number, number: number, raw: number, start: number, length: number];

function listOf(...parts: readonly Part[]): ChunkList {
  const builder = new ChunkListBuilder();
  for (const [pack, number, raw, start, length] of parts)
    builder.add([length, pack, number, 40 + number, raw + 17, raw, start, '']);
  return builder.list();
}

const whole = (pack: number, number: number, raw: number): Part => [pack, number, raw, 0, raw];

function stored(...frames: readonly { readonly frame: Part; readonly ranges: Ranges }[]): StoredChunks {
  return { frames: listOf(...frames.map(each => each.frame)), ranges: frames.map(each => each.ranges) };
}

/** Each byte of a file, as the frame and the byte of it that it is. */
function bytesOf(list: ChunkList): string[] {
  return chunksOf(list).flatMap(([length, pack, number, , , , start]) =>
    Array.from({ length }, (_, index) => `${pack}/${number}@${start + index}`),
  );
}

test('any patches over any file, a hundred times - as byte by byte, no piece is empty, neighbours are joined', () => {
  const rounds = fc.array(
    fc.record({ size: fc.nat(60), marks: fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }) }),
    { maxLength: 12 },
  );
  fc.assert(
    fc.property(fc.nat(60), rounds, (first, changes) => {
      let list = first === 0 ? listOf() : listOf(whole(99, 0, first));
      let model = bytesOf(list);
      for (const [round, { size, marks }] of changes.entries()) {
        // What is new at the end is always written, and what is marked.
        const written = Array.from({ length: size }, (_, at) => at >= model.length || marks[at] === true);
        const ranges: number[] = [];
        for (const [at, isWritten] of written.entries()) {
          if (!isWritten) continue;
          const last = ranges.length - 2;
          if (last >= 0 && ranges[last]! + ranges[last + 1]! === at) ranges[last + 1]! += 1;
          else ranges.push(at, 1);
        }
        const raw = written.filter(Boolean).length;
        const news = raw === 0 ? stored() : stored({ frame: whole(round, round, raw), ranges });
        list = patchChunks(list, news, size);
        let start = 0;
        model = written.map((isWritten, at) => (isWritten ? `${round}/${round}@${start++}` : model[at]!));
        expect(bytesOf(list)).toEqual(model);
        const chunks = chunksOf(list);
        expect(chunks.every(chunk => chunk[0] > 0)).toBe(true);
        for (const [index, [length, pack, , , , , start]] of chunks.entries()) {
          const next = chunks[index + 1];
          if (next?.[1] === pack) expect(next[6]).not.toBe(start + length);
        }
      }
    }),
    { numRuns: 300 },
  );
});

test('a patch that reaches behind the end, or lies there - is cut', () => {
  const news = stored({ frame: whole(1, 0, 8), ranges: [6, 4, 12, 4] });
  expect(bytesOf(patchChunks(listOf(whole(0, 0, 10)), news, 8))).toEqual([
    ...bytesOf(listOf([0, 0, 10, 0, 6])),
    '1/0@0',
    '1/0@1',
  ]);
});

test('parts of one frame that follow each other in the file and not in the frame - stay two chunks', () => {
  const before = listOf([0, 0, 4, 2, 2], [0, 0, 4, 0, 2]);
  const after = patchChunks(before, stored(), 4);
  expect(chunksOf(after)).toEqual(chunksOf(before));
});

test('a byte that nobody has, patches that overlap, ranges that are not the body - are bugs', () => {
  const before = listOf(whole(0, 0, 10));
  expect(() => patchChunks(before, stored(), 11)).toThrow('nothing is known of byte 10');
  const twice = stored({ frame: whole(1, 0, 4), ranges: [0, 4] }, { frame: whole(1, 1, 4), ranges: [3, 4] });
  expect(() => patchChunks(before, twice, 10)).toThrow('two frames have byte 3');
  const short = stored({ frame: whole(1, 0, 4), ranges: [0, 3] });
  expect(() => patchChunks(before, short, 10)).toThrow('have 3 bytes');
});

test('what the list was made of - stays as it was; hashes go along', () => {
  const builder = new ChunkListBuilder();
  builder.add([10, 0, 0, 40, 27, 10, 0, 'a']);
  const before = builder.list();
  const copy = chunksOf(before);
  const after = patchChunks(before, stored({ frame: whole(1, 0, 2), ranges: [4, 2] }), 10);
  expect(chunksOf(after)).toEqual([
    [4, 0, 0, 40, 27, 10, 0, 'a'],
    [2, 1, 0, 40, 19, 2, 0, ''],
    [4, 0, 0, 40, 27, 10, 6, 'a'],
  ]);
  after.numbers.fill(0);
  expect(chunksOf(before)).toEqual(copy);
});
