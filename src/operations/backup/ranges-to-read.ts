import { FRAME_BODY_BYTES } from '../../repository/compression.ts';
import { frameKey, type Piece } from './file-pieces.ts';
import { eachRange, gapsBetween, joinRanges, type Ranges, uniteRanges } from './ranges.ts';

/**
 * A frame of which less than this share is still used is left behind: what is used of it is copied anew. So a restore
 * never opens more than this many times what a file holds, however many incremental backups there were, and what is
 * copied for it is a small part of what was copied before.
 */
const WORN_SHARE = 1 / 8;
/** As many frames as 1 MiB of a file may lie in; more are as many requests to the storage. */
const FRAMES_PER_RANGE = 64;

/** A file of an incremental backup: what it is now, and what the parent has of it. */
export interface ChangedFile {
  readonly sizeBytes: number;
  readonly blockSize: number;
  readonly parent: readonly Piece[];
}

/**
 * What of a file of pages is to be read, where it is known which changed: `changed`, what the parent does not have, and
 * what lies so scattered in the repository that it is better copied anew.
 */
export function rangesToRead(file: ChangedFile, changed: Ranges): Ranges {
  const { sizeBytes, blockSize, parent } = file;
  const wholePages = (bytes: number): number => bytes - (bytes % blockSize);
  const parentBytes = parent.reduce((sum, piece) => sum + piece.length, 0);
  // A page that is there in part only, in the parent or now, was left by a crash.
  const known = Math.min(wholePages(parentBytes), wholePages(sizeBytes));
  const needed = joinRanges(clip([...eachRange(changed), [known, sizeBytes - known]], sizeBytes));
  const withWorn = uniteRanges(needed, wornRanges(file, needed));
  return uniteRanges(withWorn, scatteredRanges(file, withWorn));
}

/** Where the parent's frames are hardly used any more, once `needed` is read. */
function wornRanges({ sizeBytes, parent }: ChangedFile, needed: Ranges): Ranges {
  const used = new Map<string, number>();
  for (const { piece, length } of keptPieces(parent, needed, sizeBytes)) {
    const key = frameKey(piece.frame);
    used.set(key, (used.get(key) ?? 0) + length);
  }
  const worn: [number, number][] = [];
  for (const { piece, at, length } of keptPieces(parent, needed, sizeBytes)) {
    if ((used.get(frameKey(piece.frame)) ?? 0) < piece.frame.raw * WORN_SHARE) worn.push([at, length]);
  }
  return joinRanges(worn);
}

/** Where a file would lie in too many frames, once `needed` is read. */
function scatteredRanges({ sizeBytes, parent }: ChangedFile, needed: Ranges): Ranges {
  const frames = new Map<number, Set<string>>();
  for (const { piece, at, length } of keptPieces(parent, needed, sizeBytes)) {
    const last = Math.floor((at + length - 1) / FRAME_BODY_BYTES);
    for (let range = Math.floor(at / FRAME_BODY_BYTES); range <= last; range += 1) {
      const known = frames.get(range) ?? new Set();
      frames.set(range, known.add(frameKey(piece.frame)));
    }
  }
  const scattered: [number, number][] = [];
  for (const [range, { size }] of frames) {
    const at = range * FRAME_BODY_BYTES;
    if (size > FRAMES_PER_RANGE) scattered.push([at, Math.min(FRAME_BODY_BYTES, sizeBytes - at)]);
  }
  return joinRanges(scattered);
}

/** The parts of the parent's pieces that stay, and where in the file they are. */
function* keptPieces(
  parent: readonly Piece[],
  needed: Ranges,
  sizeBytes: number,
): Generator<{ readonly piece: Piece; readonly at: number; readonly length: number }> {
  let index = 0;
  let pieceAt = 0;
  for (const [offset, length] of eachRange(gapsBetween(needed, sizeBytes))) {
    for (let at = offset; at < offset + length; ) {
      const piece = parent[index];
      if (piece === undefined) return;
      const end = pieceAt + piece.length;
      if (end > at) {
        const part = Math.min(end, offset + length) - at;
        yield { piece, at, length: part };
        at += part;
      }
      if (end <= at) {
        pieceAt = end;
        index += 1;
      }
    }
  }
}

function clip(ranges: readonly (readonly [number, number])[], size: number): [number, number][] {
  return ranges.map(([offset, length]) => [offset, Math.min(length, size - offset)]);
}
