import {
  CHUNK_LENGTH,
  CHUNK_NUMBERS,
  CHUNK_RAW,
  type ChunkList,
  chunkCount,
  type DistinctFrames,
  distinctFrames,
} from '../../repository/chunk-list.ts';
import { FRAME_BODY_BYTES } from '../../repository/compression.ts';
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
  readonly parent: ChunkList;
}

type FileFrames = ChangedFile & { readonly frames: DistinctFrames };

/**
 * What of a file of pages is to be read, where it is known which changed: `changed`, what the parent does not have, and
 * what lies so scattered in the repository that it is better copied anew.
 */
export function rangesToRead(file: ChangedFile, changed: Ranges): Ranges {
  const { sizeBytes, blockSize, parent } = file;
  const wholePages = (bytes: number): number => bytes - (bytes % blockSize);
  // A page that is there in part only, in the parent or now, was left by a crash.
  const known = Math.min(wholePages(listedBytes(parent)), wholePages(sizeBytes));
  const unknown = known < sizeBytes ? [known, sizeBytes - known] : [];
  const needed = uniteRanges(clipRanges(changed, sizeBytes), unknown);
  const withFrames = { ...file, frames: distinctFrames(parent) };
  const withWorn = uniteRanges(needed, wornRanges(withFrames, needed));
  return uniteRanges(withWorn, scatteredRanges(withFrames, withWorn));
}

function listedBytes({ numbers }: ChunkList): number {
  let bytes = 0;
  for (let at = CHUNK_LENGTH; at < numbers.length; at += CHUNK_NUMBERS) bytes += numbers[at]!;
  return bytes;
}

/** Where the parent's frames are hardly used any more, once `needed` is read. */
function wornRanges(file: FileFrames, needed: Ranges): Ranges {
  const { frames, parent } = file;
  const used = new Float64Array(frames.count);
  forEachKept(file, needed, (frame, _, length) => {
    used[frame]! += length;
  });
  const isWorn = (frame: number): boolean => {
    const raw = parent.numbers[frames.first[frame]! * CHUNK_NUMBERS + CHUNK_RAW]!;
    return used[frame]! > 0 && used[frame]! < raw * WORN_SHARE;
  };
  if (!used.some((_, frame) => isWorn(frame))) return [];
  const worn: number[] = [];
  forEachKept(file, needed, (frame, at, length) => {
    if (isWorn(frame)) appendRange(worn, at, length);
  });
  return worn;
}

/** Where a file would lie in too many frames, once `needed` is read. */
function scatteredRanges(file: FileFrames, needed: Ranges): Ranges {
  const { sizeBytes, frames } = file;
  const scattered: number[] = [];
  /** By frame: the last range, plus one, that was seen to lie in it. */
  const seen = new Uint32Array(frames.count);
  let current = 0;
  let count = 0;
  const close = (): void => {
    const at = current * FRAME_BODY_BYTES;
    if (count > FRAMES_PER_RANGE) appendRange(scattered, at, Math.min(FRAME_BODY_BYTES, sizeBytes - at));
    count = 0;
  };
  forEachKept(file, needed, (frame, at, length) => {
    const last = Math.floor((at + length - 1) / FRAME_BODY_BYTES);
    for (let range = Math.floor(at / FRAME_BODY_BYTES); range <= last; range += 1) {
      if (range !== current) close();
      current = range;
      if (seen[frame] === range + 1) continue;
      seen[frame] = range + 1;
      count += 1;
    }
  });
  close();
  return scattered;
}

/** Visits the parts of the parent's chunks that stay, in the order of the file. */
function forEachKept(
  { parent, sizeBytes, frames }: FileFrames,
  needed: Ranges,
  visit: (frame: number, at: number, length: number) => void,
): void {
  const kept = gapsBetween(needed, sizeBytes);
  const chunks = chunkCount(parent);
  let index = 0;
  let chunkBegins = 0;
  for (let range = 0; range < kept.length; range += 2) {
    let at = kept[range]!;
    const end = at + kept[range + 1]!;
    while (at < end) {
      if (index === chunks) return;
      const chunkEnds = chunkBegins + parent.numbers[index * CHUNK_NUMBERS + CHUNK_LENGTH]!;
      if (chunkEnds > at) {
        const length = Math.min(chunkEnds, end) - at;
        visit(frames.of[index]!, at, length);
        at += length;
      } else {
        chunkBegins = chunkEnds;
        index += 1;
      }
    }
  }
}
