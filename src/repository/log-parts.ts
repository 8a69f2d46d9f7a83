import { AppError } from '../base/errors.ts';

/**
 * A piece of a segment that was archived before the segment was full: its bytes from `from` up to `to`. Pieces never
 * change; later ones reach further, and some begin anew at 0, so that few of them make up the whole.
 */
export interface LogPart {
  /** The object's file name: `000000010000000000000003.00000000-00012000.part`. */
  readonly name: string;
  /** Name of the segment. */
  readonly segment: string;
  readonly from: number;
  /** Exclusive. */
  readonly to: number;
}

/** Under which name the joined pieces of a segment are asked for. It is also PostgreSQL's own for an unfinished segment. */
export const PARTIAL_SUFFIX = '.partial';

const form = /^([0-9A-F]{24})\.([0-9A-F]{8})-([0-9A-F]{8})\.part$/;

export function partName(segment: string, from: number, to: number): string {
  return `${segment}.${hex8(from)}-${hex8(to)}.part`;
}

/** Null when the name is not that of a piece. */
export function parsePartName(name: string): LogPart | null {
  const match = form.exec(name);
  if (match === null) return null;
  const [from, to] = [Number.parseInt(match[2]!, 16), Number.parseInt(match[3]!, 16)];
  return from < to ? { name, segment: match[1]!, from, to } : null;
}

/** The fewest pieces of one segment that, joined, reach furthest without a hole; none when none begins at 0. */
export function joinableParts(parts: readonly LogPart[]): readonly LogPart[] {
  const chosen: LogPart[] = [];
  for (let reach = 0; ; ) {
    let best: LogPart | null = null;
    for (const part of parts)
      if (part.from <= reach && part.to > reach && (best === null || part.to > best.to)) best = part;
    if (best === null) return chosen;
    chosen.push(best);
    reach = best.to;
  }
}

/** How many first bytes of a segment its pieces hold. */
export function reachOf(parts: readonly LogPart[]): number {
  return joinableParts(parts).at(-1)?.to ?? 0;
}

/**
 * Joins pieces into a file of a segment's full size, with zeros behind their end: what a server takes for a segment that
 * was not written any further.
 *
 * @throws CORRUPT when pieces that overlap differ, or the segment's own header does not say how large it is
 */
export function joinParts(
  pieces: readonly { readonly part: LogPart; readonly bytes: Uint8Array }[],
): Uint8Array {
  const first = pieces[0]!;
  const bytes = new Uint8Array(segmentSizeOf(first.bytes, first.part));
  let reach = 0;
  for (const { part, bytes: piece } of pieces) {
    if (piece.length !== part.to - part.from || part.to > bytes.length)
      throw damaged(part, 'it is not of the length its name says');
    const overlap = reach - part.from;
    if (Buffer.compare(piece.subarray(0, overlap), bytes.subarray(part.from, reach)) !== 0)
      throw damaged(part, 'it differs from the piece before it where both overlap');
    bytes.set(piece, part.from);
    reach = part.to;
  }
  return bytes;
}

/** @source access/xlog_internal.h, XLogLongPageHeaderData, xlp_seg_size; IsValidWalSegSize */
function segmentSizeOf(bytes: Uint8Array, part: LogPart): number {
  const size =
    bytes.length < 36
      ? 0
      : new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(32, true);
  if (size >= 2 ** 20 && size <= 2 ** 30 && (size & (size - 1)) === 0) return size;
  throw damaged(part, 'it does not begin like a segment');
}

function damaged(part: LogPart, why: string): AppError {
  return new AppError('CORRUPT', `log file '${part.name}' is damaged: ${why}`, {
    details: { name: part.name },
  });
}

function hex8(value: number): string {
  return value.toString(16).toUpperCase().padStart(8, '0');
}
