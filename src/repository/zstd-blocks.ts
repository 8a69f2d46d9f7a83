/** A block of zstd holds at most so many bytes of the content. @source RFC 8878, 3.1.1.2.4 */
const MOST_BLOCK_BYTES = 128 * 1024;
const MAGIC_BYTES = 4;
const BLOCK_HEADER_BYTES = 3;
const RUN_LENGTH = 1;

/**
 * How much of a zstd frame holds the content's first `bytes`, if its blocks are full, which they need not be: that many of
 * them, the frame's header included. All of the frame where it has no more, or is none.
 *
 * @source RFC 8878, 3.1.1
 */
export function zstdPrefix(frame: Uint8Array, bytes: number): number {
  let at = headerBytes(frame);
  for (let wanted = Math.ceil(bytes / MOST_BLOCK_BYTES); wanted > 0; wanted -= 1) {
    if (at + BLOCK_HEADER_BYTES > frame.length) return frame.length;
    const header = frame[at]! | (frame[at + 1]! << 8) | (frame[at + 2]! << 16);
    const isLast = (header & 1) === 1;
    if (isLast) return frame.length;
    at += BLOCK_HEADER_BYTES + (((header >> 1) & 3) === RUN_LENGTH ? 1 : header >>> 3);
  }
  return Math.min(at, frame.length);
}

/** @source RFC 8878, 3.1.1.1 */
function headerBytes(frame: Uint8Array): number {
  const descriptor = frame[MAGIC_BYTES] ?? 0;
  const isSingleSegment = ((descriptor >> 5) & 1) === 1;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3]!;
  const sizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
  return MAGIC_BYTES + 1 + (isSingleSegment ? 0 : 1) + dictionaryBytes + sizeBytes;
}
