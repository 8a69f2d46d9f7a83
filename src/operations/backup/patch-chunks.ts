import { assert } from '../../base/errors.ts';
import {
  CHUNK_LENGTH,
  CHUNK_NUMBERS,
  CHUNK_RAW,
  CHUNK_START,
  type ChunkList,
  ChunkListBuilder,
  chunkCount,
} from '../../repository/chunk-list.ts';
import type { PackedRanges } from './ranges.ts';

/** Whole frames, and where in a file the content of each belongs. */
export interface StoredChunks {
  readonly frames: ChunkList;
  readonly ranges: readonly PackedRanges[];
}

/**
 * The chunks of a file of `size` bytes: what was stored of it, in the order of the file, and in between what it had before.
 * Neighbours in one frame become one chunk. Both lists number packs alike.
 */
export function patchChunks(
  before: ChunkList,
  stored: StoredChunks,
  size: number,
): ReturnType<ChunkListBuilder['list']> {
  const result = new ChunkListBuilder(chunkCount(before) + 64);
  let at = 0;
  let index = 0;
  let chunkBegins = 0;
  const push = (from: ChunkList, of: number, part: { start: number; length: number }): void => {
    at += part.length;
    if (part.length > 0 && !result.goOn(from, of, part)) result.addPart(from, of, part);
  };
  const keepTo = (end: number): void => {
    while (at < end) {
      assert(index < chunkCount(before), `nothing is known of byte ${at} of a file`);
      const chunk = index * CHUNK_NUMBERS;
      const chunkEnds = chunkBegins + before.numbers[chunk + CHUNK_LENGTH]!;
      if (chunkEnds > at) {
        const start = before.numbers[chunk + CHUNK_START]! + at - chunkBegins;
        push(before, index, { start, length: Math.min(chunkEnds, end) - at });
      } else {
        chunkBegins = chunkEnds;
        index += 1;
      }
    }
  };
  for (const [frame, ranges] of stored.ranges.entries()) {
    let start = 0;
    for (let range = 0; range < ranges.length; range += 2) {
      const offset = ranges[range]!;
      const length = ranges[range + 1]!;
      if (offset < size) {
        assert(offset >= at, `two frames have byte ${offset} of a file`);
        keepTo(offset);
        push(stored.frames, frame, { start, length: Math.min(length, size - offset) });
      }
      start += length;
    }
    const raw = stored.frames.numbers[frame * CHUNK_NUMBERS + CHUNK_RAW]!;
    assert(start === raw, `the ranges of a frame have ${start} bytes, its body ${raw}`);
  }
  keepTo(size);
  return result.list();
}
