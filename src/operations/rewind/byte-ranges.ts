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
