import { FRAME_BODY_BYTES } from '../../repository/compression.ts';
import type { StoredFrame } from '../../repository/pack-writer.ts';
import type { Piece } from './file-pieces.ts';
import { appendRange, clipRanges, gapsBetween, type Ranges, uniteRanges } from './ranges.ts';

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
  /** Pieces of one frame have the same object for it. */
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
  const unknown = known < sizeBytes ? [known, sizeBytes - known] : [];
  const needed = uniteRanges(clipRanges(changed, sizeBytes), unknown);
  const withWorn = uniteRanges(needed, wornRanges(file, needed));
  return uniteRanges(withWorn, scatteredRanges(file, withWorn));
}

/** Where the parent's frames are hardly used any more, once `needed` is read. */
function wornRanges({ sizeBytes, parent }: ChangedFile, needed: Ranges): Ranges {
  const used = new Map<StoredFrame, number>();
  forEachKept({ parent, needed, sizeBytes }, (frame, _, length) => {
    used.set(frame, (used.get(frame) ?? 0) + length);
  });
  const isWorn = (frame: StoredFrame): boolean => used.get(frame)! < frame.raw * WORN_SHARE;
  if (![...used.keys()].some(isWorn)) return [];
  const worn: number[] = [];
  forEachKept({ parent, needed, sizeBytes }, (frame, at, length) => {
    if (isWorn(frame)) appendRange(worn, at, length);
  });
  return worn;
}

/** Where a file would lie in too many frames, once `needed` is read. */
function scatteredRanges({ sizeBytes, parent }: ChangedFile, needed: Ranges): Ranges {
  const scattered: number[] = [];
  const frames = new Set<StoredFrame>();
  let current = 0;
  const close = (): void => {
    const at = current * FRAME_BODY_BYTES;
    if (frames.size > FRAMES_PER_RANGE)
      appendRange(scattered, at, Math.min(FRAME_BODY_BYTES, sizeBytes - at));
    frames.clear();
  };
  forEachKept({ parent, needed, sizeBytes }, (frame, at, length) => {
    const last = Math.floor((at + length - 1) / FRAME_BODY_BYTES);
    for (let range = Math.floor(at / FRAME_BODY_BYTES); range <= last; range += 1) {
      if (range !== current) close();
      current = range;
      frames.add(frame);
    }
  });
  close();
  return scattered;
}

/** Visits the parts of the parent's pieces that stay, in the order of the file. */
function forEachKept(
  file: { readonly parent: readonly Piece[]; readonly needed: Ranges; readonly sizeBytes: number },
  visit: (frame: StoredFrame, at: number, length: number) => void,
): void {
  const { parent } = file;
  const kept = gapsBetween(file.needed, file.sizeBytes);
  let index = 0;
  let pieceAt = 0;
  for (let range = 0; range < kept.length; range += 2) {
    const end = kept[range]! + kept[range + 1]!;
    for (let at = kept[range]!; at < end; ) {
      const piece = parent[index];
      if (piece === undefined) return;
      const pieceEnd = pieceAt + piece.length;
      if (pieceEnd > at) {
        const length = Math.min(pieceEnd, end) - at;
        visit(piece.frame, at, length);
        at += length;
      } else {
        pieceAt = pieceEnd;
        index += 1;
      }
    }
  }
}
