import { eachRange, type Ranges } from '../backup/ranges.ts';

/** One range; none when it is empty. */
export function oneRange(offset: number, length: number): Ranges {
  return length > 0 ? [offset, length] : [];
}

/** Adds a range behind all others; the two join when they touch. */
export function pushRange(ranges: number[], offset: number, length: number): void {
  const last = ranges.length - 2;
  if (last >= 0 && ranges[last]! + ranges[last + 1]! === offset) ranges[last + 1]! += length;
  else ranges.push(offset, length);
}

/** What of them lies in `[from, to)`. */
export function cutRanges(ranges: Ranges, from: number, to: number): Ranges {
  const cut: number[] = [];
  for (const [offset, length] of eachRange(ranges)) {
    const start = Math.max(offset, from);
    const end = Math.min(offset + length, to);
    if (end > start) cut.push(start, end - start);
  }
  return cut;
}

/** Ranges that are read at once, with what lies between them. */
export interface ReadSpan {
  readonly at: number;
  length: number;
  readonly ranges: [offset: number, length: number][];
}

/** Less than this between two ranges is read along: cheaper than another call. */
const READ_ALONG_BYTES = 32 * 1024;

/** Joins ranges, in ascending order, to spans of at most `spanBytes`; longer ranges are cut. */
export function* readSpans(ranges: Ranges, spanBytes: number): Generator<ReadSpan> {
  let span: ReadSpan | null = null;
  for (const [offset, length] of eachRange(ranges)) {
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const isNear: boolean =
        span !== null && at - (span.at + span.length) <= READ_ALONG_BYTES && at - span.at < spanBytes;
      if (span === null || !isNear) {
        if (span !== null) yield span;
        span = { at, length: 0, ranges: [] };
      }
      const taken = Math.min(length - done, span.at + spanBytes - at);
      span.ranges.push([at, taken]);
      span.length = at + taken - span.at;
      done += taken;
    }
  }
  if (span !== null) yield span;
}
