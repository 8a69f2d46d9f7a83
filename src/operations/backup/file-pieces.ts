import { assert } from '../../base/errors.ts';
import type { Chunk, PackFacts } from '../../repository/manifest.ts';
import type { StoredFrame } from '../../repository/pack-writer.ts';
import type { Ranges } from './ranges.ts';

/** `length` bytes of a file: those from byte `start` of a frame's body on. A file is its pieces, one after the other. */
export interface Piece {
  readonly frame: StoredFrame;
  readonly start: number;
  readonly length: number;
}

/** A frame with ranges of a file. */
export interface SelectedFrame {
  readonly frame: StoredFrame;
  readonly ranges: Ranges;
}

/** Frames in one pack are fewer. */
const FRAMES_AT_MOST = 2 ** 21;

/** The pieces of a file as a manifest with these packs has it. Pieces of one frame have the same object for it. */
export function piecesOf(chunks: readonly Chunk[], packs: readonly PackFacts[]): Piece[] {
  const frames = new Map<number, StoredFrame>();
  return chunks.map(([length, pack, number, offset, stored, raw, start, hash]) => {
    const key = pack * FRAMES_AT_MOST + number;
    let frame = frames.get(key);
    if (frame === undefined) {
      const packId = packs[pack]?.id;
      assert(packId !== undefined, `there is no pack number ${pack}`);
      frame = { packId, number, offset, stored, raw, hash };
      frames.set(key, frame);
    }
    return { frame, start, length };
  });
}

/**
 * The pieces of a file of `size` bytes: what was stored of it, in the order of the file, and in between what it had before.
 * Neighbours in one frame become one piece. Files have a hundred thousand of them: nothing is made that is not kept.
 */
export function patchPieces(
  before: readonly Piece[],
  stored: readonly SelectedFrame[],
  size: number,
): Piece[] {
  const result: { frame: StoredFrame; start: number; length: number }[] = [];
  let at = 0;
  let index = 0;
  let pieceAt = 0;
  const push = (frame: StoredFrame, start: number, length: number): void => {
    at += length;
    const last = result.at(-1);
    if (last !== undefined && isSameFrame(last.frame, frame) && last.start + last.length === start)
      last.length += length;
    else if (length > 0) result.push({ frame, start, length });
  };
  const keepTo = (end: number): void => {
    while (at < end) {
      const piece = before[index];
      assert(piece !== undefined, `nothing is known of byte ${at} of a file`);
      const pieceEnd = pieceAt + piece.length;
      if (pieceEnd > at) push(piece.frame, piece.start + at - pieceAt, Math.min(pieceEnd, end) - at);
      else {
        pieceAt = pieceEnd;
        index += 1;
      }
    }
  };
  for (const { frame, ranges } of stored) {
    let start = 0;
    for (let range = 0; range < ranges.length; range += 2) {
      const offset = ranges[range]!;
      const length = ranges[range + 1]!;
      if (offset < size) {
        assert(offset >= at, `two frames have byte ${offset} of a file`);
        keepTo(offset);
        push(frame, start, Math.min(length, size - offset));
      }
      start += length;
    }
    assert(start === frame.raw, `the ranges of a frame have ${start} bytes, its body ${frame.raw}`);
  }
  keepTo(size);
  return result;
}

function isSameFrame(a: StoredFrame, b: StoredFrame): boolean {
  return a === b || (a.number === b.number && a.packId === b.packId);
}
