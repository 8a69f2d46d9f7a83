import { assert } from '../../base/errors.ts';
import type { Chunk, PackFacts } from '../../repository/manifest.ts';
import type { StoredFrame } from '../../repository/pack-writer.ts';

/** `length` bytes of a file: those from byte `start` of a frame's body on. A file is its pieces, one after the other. */
export interface Piece {
  readonly frame: StoredFrame;
  readonly start: number;
  readonly length: number;
}

/** A piece that takes the place of what was at byte `at` of a file. */
export interface Patch extends Piece {
  readonly at: number;
}

/** The pieces of a file as a manifest with these packs has it. */
export function piecesOf(chunks: readonly Chunk[], packs: readonly PackFacts[]): Piece[] {
  return chunks.map(([length, pack, number, offset, stored, raw, start, hash]) => {
    const packId = packs[pack]?.id;
    assert(packId !== undefined, `there is no pack number ${pack}`);
    return { frame: { packId, number, offset, stored, raw, hash }, start, length };
  });
}

/** Where the content of a frame belongs: `runs` says it as a pack does, offset, length, offset, length, … */
export function patchesOf(frame: StoredFrame, runs: readonly number[]): Patch[] {
  const patches: Patch[] = [];
  let start = 0;
  for (let index = 0; index < runs.length; index += 2) {
    const [at = 0, length = 0] = [runs[index], runs[index + 1]];
    patches.push({ at, frame, start, length });
    start += length;
  }
  assert(start === frame.raw, `the runs of a frame have ${start} bytes, its body ${frame.raw}`);
  return patches;
}

/**
 * The pieces of a file of `size` bytes: `patches`, which are in no certain order and do not overlap, and in between what
 * the file had before. Neighbours in one frame become one piece.
 */
export function patchPieces(before: readonly Piece[], patches: readonly Patch[], size: number): Piece[] {
  const result: Piece[] = [];
  const old = pieceReader(before);
  let at = 0;
  const take = (to: number): void => {
    for (const piece of old(at, to)) push(result, piece);
    at = to;
  };
  for (const patch of [...patches].sort((a, b) => a.at - b.at)) {
    if (patch.at >= size) break;
    assert(patch.at >= at, `two patches overlap at byte ${patch.at}`);
    take(patch.at);
    const length = Math.min(patch.length, size - at);
    push(result, { frame: patch.frame, start: patch.start, length });
    at += length;
  }
  take(size);
  return result;
}

/** Reads ranges of a file in ascending order; what is asked for must be there. */
function pieceReader(pieces: readonly Piece[]): (from: number, to: number) => Generator<Piece> {
  let index = 0;
  let pieceAt = 0;
  return function* read(from, to) {
    let at = from;
    while (at < to) {
      const piece = pieces[index];
      assert(piece !== undefined, `nothing is known of byte ${at} of a file`);
      const end = pieceAt + piece.length;
      if (end <= at) {
        pieceAt = end;
        index += 1;
        continue;
      }
      const length = Math.min(end, to) - at;
      yield { frame: piece.frame, start: piece.start + at - pieceAt, length };
      at += length;
    }
  };
}

function push(pieces: Piece[], piece: Piece): void {
  if (piece.length === 0) return;
  const last = pieces.at(-1);
  if (last !== undefined && isSameFrame(last.frame, piece.frame) && last.start + last.length === piece.start)
    pieces[pieces.length - 1] = { ...last, length: last.length + piece.length };
  else pieces.push(piece);
}

function isSameFrame(a: StoredFrame, b: StoredFrame): boolean {
  return a.number === b.number && a.packId === b.packId;
}

/** Tells frames apart in maps. */
export function frameKey(frame: StoredFrame): string {
  return `${frame.packId}/${frame.number}`;
}
