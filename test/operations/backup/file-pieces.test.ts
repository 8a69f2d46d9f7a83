import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Piece, patchPieces, piecesOf } from '../../../src/operations/backup/file-pieces.ts';
import type { StoredFrame } from '../../../src/repository/pack-writer.ts';

const frame = (packId: string, number: number, raw: number): StoredFrame => ({
  packId,
  number,
  offset: 40 + number,
  stored: raw + 17,
  raw,
  hash: '',
});

/** Each byte of a file, as the frame and the byte of it that it is. */
function bytesOf(pieces: readonly Piece[]): string[] {
  return pieces.flatMap(({ frame: { packId, number }, start, length }) =>
    Array.from({ length }, (_, index) => `${packId}/${number}@${start + index}`),
  );
}

test('any patches over any file, a hundred times - as byte by byte, no piece is empty, neighbours are joined', () => {
  const rounds = fc.array(
    fc.record({ size: fc.nat(60), marks: fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }) }),
    { maxLength: 12 },
  );
  fc.assert(
    fc.property(fc.nat(60), rounds, (first, list) => {
      let pieces: Piece[] = first === 0 ? [] : [{ frame: frame('full', 0, first), start: 0, length: first }];
      let model = bytesOf(pieces);
      for (const [round, { size, marks }] of list.entries()) {
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
        const stored = raw === 0 ? [] : [{ frame: frame(`round${round}`, round, raw), ranges }];
        pieces = patchPieces(pieces, stored, size);
        let start = 0;
        model = written.map((isWritten, at) =>
          isWritten ? `round${round}/${round}@${start++}` : model[at]!,
        );
        expect(bytesOf(pieces)).toEqual(model);
        expect(pieces.every(piece => piece.length > 0)).toBe(true);
        for (const [index, piece] of pieces.entries()) {
          const next = pieces[index + 1];
          if (next?.frame.packId === piece.frame.packId)
            expect(next.start).not.toBe(piece.start + piece.length);
        }
      }
    }),
    { numRuns: 300 },
  );
});

test('a patch that reaches behind the end, or lies there - is cut', () => {
  const before: Piece[] = [{ frame: frame('a', 0, 10), start: 0, length: 10 }];
  const stored = [{ frame: frame('b', 0, 8), ranges: [6, 4, 12, 4] }];
  expect(bytesOf(patchPieces(before, stored, 8))).toEqual([
    ...bytesOf([{ ...before[0]!, length: 6 }]),
    'b/0@0',
    'b/0@1',
  ]);
});

test('parts of one frame that follow each other in the file and not in the frame - stay two pieces', () => {
  const before: Piece[] = [2, 0].map(start => ({ frame: frame('a', 0, 4), start, length: 2 }));
  expect(bytesOf(patchPieces(before, [], 4))).toEqual(['a/0@2', 'a/0@3', 'a/0@0', 'a/0@1']);
});

test('a byte that nobody has, patches that overlap, ranges that are not the body - are bugs', () => {
  const before: Piece[] = [{ frame: frame('a', 0, 10), start: 0, length: 10 }];
  expect(() => patchPieces(before, [], 11)).toThrow('nothing is known of byte 10');
  const twice = [
    { frame: frame('b', 0, 4), ranges: [0, 4] },
    { frame: frame('b', 1, 4), ranges: [3, 4] },
  ];
  expect(() => patchPieces(before, twice, 10)).toThrow('two frames have byte 3');
  const short = [{ frame: frame('b', 0, 4), ranges: [0, 3] }];
  expect(() => patchPieces(before, short, 10)).toThrow('have 3 bytes');
});

test('the chunks of a manifest - are pieces, with their packs by name and one object for each frame', () => {
  const pack = { id: 'p1', backup: 'b', generation: 1, sizeBytes: 1, sha256: '' };
  expect(piecesOf([[5, 1, 7, 40, 30, 20, 3, 'h']], [{ ...pack, id: 'p0' }, pack])).toEqual([
    { frame: { packId: 'p1', number: 7, offset: 40, stored: 30, raw: 20, hash: 'h' }, start: 3, length: 5 },
  ]);
  const [one, two, three] = piecesOf(
    [0, 1, 0].map(number => [5, 0, number, 40, 30, 20, 3, 'h'] as const),
    [pack],
  );
  expect([one!.frame === three!.frame, one!.frame === two!.frame]).toEqual([true, false]);
});
