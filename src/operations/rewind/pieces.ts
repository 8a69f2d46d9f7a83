import type { FileLine } from '../../repository/manifest.ts';
import type { Piece } from './rewind-protocol.ts';

/** Where the wanted ranges of a file are found in the backup. */
export function piecesOf(line: FileLine, wanted: readonly number[]): Piece[] {
  const pieces: Piece[] = [];
  let chunkAt = 0;
  let index = 0;
  for (const chunk of line.c) {
    const chunkEnd = chunkAt + chunk[0];
    while (index < wanted.length && wanted[index]! < chunkEnd) {
      const rangeEnd = wanted[index]! + wanted[index + 1]!;
      const from = Math.max(wanted[index]!, chunkAt);
      const to = Math.min(rangeEnd, chunkEnd);
      if (to > from) pieces.push({ chunk, start: chunk[6] + from - chunkAt, at: from, length: to - from });
      // The rest of this range is in the next chunk.
      if (rangeEnd > chunkEnd) break;
      index += 2;
    }
    chunkAt = chunkEnd;
  }
  return pieces;
}

export function piecesBytes(pieces: readonly Piece[]): number {
  return pieces.reduce((sum, piece) => sum + piece.length, 0);
}
