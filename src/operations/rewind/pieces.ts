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

/** In the order in which they lie in the packs: of what incremental backups have cut up, that is not the file's. */
export function inPackOrder(pieces: readonly Piece[]): Piece[] {
  return pieces.toSorted(({ chunk: a }, { chunk: b }) => a[1] - b[1] || a[3] - b[3]);
}

/** How much is unpacked for pieces in pack order: of every frame all of it, for a single page of it too. */
export function openedBytes(pieces: readonly Piece[]): number {
  let bytes = 0;
  for (const [index, piece] of pieces.entries())
    if (!isOfFrame(piece, pieces[index - 1])) bytes += piece.chunk[5];
  return bytes;
}

/** Cuts pieces in pack order into lists for each of which about `bytes` are unpacked. No frame is in two of them. */
export function splitByFrames(pieces: readonly Piece[], bytes: number): Piece[][] {
  const lists: Piece[][] = [];
  let room = 0;
  for (const [index, piece] of pieces.entries()) {
    const isNew = !isOfFrame(piece, pieces[index - 1]);
    if (isNew && room <= 0) {
      lists.push([]);
      room = bytes;
    }
    lists.at(-1)?.push(piece);
    if (isNew) room -= piece.chunk[5];
  }
  return lists;
}

function isOfFrame({ chunk }: Piece, other: Piece | undefined): boolean {
  return other?.chunk[1] === chunk[1] && other.chunk[2] === chunk[2];
}
