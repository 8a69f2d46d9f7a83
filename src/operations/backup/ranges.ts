/** Ranges of a file as offset, length, offset, length, …: ascending, apart from each other, none empty. */
export type Ranges = readonly number[];

/** Ranges as threads hand them to each other: copied as they lie, not number by number. */
export type PackedRanges = ArrayLike<number>;

export function packRanges(ranges: Ranges): PackedRanges {
  return Float64Array.from(ranges);
}

/** Adds a range to some, of which none starts behind it. */
export function appendRange(ranges: number[], offset: number, length: number): void {
  if (length <= 0) return;
  const last = ranges.length - 2;
  const end = last < 0 ? -1 : ranges[last]! + ranges[last + 1]!;
  if (offset <= end) ranges[last + 1] = Math.max(end, offset + length) - ranges[last]!;
  else ranges.push(offset, length);
}

/** Ranges in any order, overlapping or not, as {@link Ranges}. */
export function joinRanges(ranges: Iterable<readonly [offset: number, length: number]>): Ranges {
  const joined: number[] = [];
  for (const [offset, length] of [...ranges].sort(([a], [b]) => a - b)) appendRange(joined, offset, length);
  return joined;
}

/** What is in either. */
export function uniteRanges(a: Ranges, b: Ranges): Ranges {
  if (a.length === 0) return b;
  if (b.length === 0) return a;
  const united: number[] = [];
  for (let i = 0, k = 0; i < a.length || k < b.length; ) {
    const isFirst = k >= b.length || (i < a.length && a[i]! <= b[k]!);
    if (isFirst) appendRange(united, a[i]!, a[i + 1]!);
    else appendRange(united, b[k]!, b[k + 1]!);
    if (isFirst) i += 2;
    else k += 2;
  }
  return united;
}

/** What is in both. */
export function commonRanges(a: Ranges, b: Ranges): Ranges {
  const common: number[] = [];
  for (let i = 0, k = 0; i < a.length && k < b.length; ) {
    const [endA, endB] = [a[i]! + a[i + 1]!, b[k]! + b[k + 1]!];
    const start = Math.max(a[i]!, b[k]!);
    appendRange(common, start, Math.min(endA, endB) - start);
    if (endA <= endB) i += 2;
    else k += 2;
  }
  return common;
}

/** What of them is before `size`. */
export function clipRanges(ranges: Ranges, size: number): Ranges {
  const last = ranges.length - 2;
  if (last < 0 || ranges[last]! + ranges[last + 1]! <= size) return ranges;
  const clipped: number[] = [];
  for (let index = 0; index < ranges.length; index += 2)
    appendRange(clipped, ranges[index]!, Math.min(ranges[index + 1]!, size - ranges[index]!));
  return clipped;
}

/** What of [0, size) is not in `ranges`. */
export function gapsBetween(ranges: Ranges, size: number): Ranges {
  const gaps: number[] = [];
  let at = 0;
  for (let index = 0; index < ranges.length && at < size; index += 2) {
    appendRange(gaps, at, Math.min(ranges[index]!, size) - at);
    at = ranges[index]! + ranges[index + 1]!;
  }
  appendRange(gaps, at, size - at);
  return gaps;
}

export function rangeBytes(ranges: PackedRanges): number {
  let sum = 0;
  for (let index = 1; index < ranges.length; index += 2) sum += ranges[index]!;
  return sum;
}

/** Cuts them into lists of at most `bytes` each. */
export function splitRanges(ranges: Ranges, bytes: number): Ranges[] {
  const lists: number[][] = [];
  let room = 0;
  for (let index = 0; index < ranges.length; index += 2) {
    const end = ranges[index]! + ranges[index + 1]!;
    for (let at = ranges[index]!; at < end; ) {
      if (room === 0) {
        lists.push([]);
        room = bytes;
      }
      const taken = Math.min(room, end - at);
      lists.at(-1)?.push(at, taken);
      at += taken;
      room -= taken;
    }
  }
  return lists;
}

/** One after the other; in inner loops, step through the numbers instead. */
export function* eachRange(ranges: Ranges): Generator<readonly [offset: number, length: number]> {
  for (let index = 0; index < ranges.length; index += 2) yield [ranges[index]!, ranges[index + 1]!];
}
