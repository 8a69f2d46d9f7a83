/** Ranges of a file as offset, length, offset, length, …: ascending, apart from each other, none empty. */
export type Ranges = readonly number[];

/** Sorted ranges of any kind, overlapping or not, as {@link Ranges}. */
export function joinRanges(ranges: Iterable<readonly [offset: number, length: number]>): Ranges {
  const sorted = [...ranges].filter(([, length]) => length > 0).sort(([a], [b]) => a - b);
  const joined: number[] = [];
  for (const [offset, length] of sorted) {
    const last = joined.length - 2;
    const end = last < 0 ? -1 : joined[last]! + joined[last + 1]!;
    if (offset <= end) joined[last + 1] = Math.max(end, offset + length) - joined[last]!;
    else joined.push(offset, length);
  }
  return joined;
}

/** What is in either. */
export function uniteRanges(a: Ranges, b: Ranges): Ranges {
  if (a.length === 0) return b;
  if (b.length === 0) return a;
  return joinRanges([...eachRange(a), ...eachRange(b)]);
}

/** What of [0, size) is not in `ranges`. */
export function gapsBetween(ranges: Ranges, size: number): Ranges {
  const gaps: number[] = [];
  let at = 0;
  for (const [offset, length] of eachRange(ranges)) {
    if (offset > at) gaps.push(at, Math.min(offset, size) - at);
    at = offset + length;
    if (at >= size) return gaps;
  }
  if (at < size) gaps.push(at, size - at);
  return gaps;
}

export function rangeBytes(ranges: Ranges): number {
  let sum = 0;
  for (let index = 1; index < ranges.length; index += 2) sum += ranges[index]!;
  return sum;
}

/** Cuts them into lists of at most `bytes` each. */
export function splitRanges(ranges: Ranges, bytes: number): Ranges[] {
  const lists: number[][] = [];
  let room = 0;
  for (const [offset, length] of eachRange(ranges)) {
    for (let at = offset; at < offset + length; ) {
      if (room === 0) {
        lists.push([]);
        room = bytes;
      }
      const taken = Math.min(room, offset + length - at);
      lists.at(-1)?.push(at, taken);
      at += taken;
      room -= taken;
    }
  }
  return lists;
}

/** One after the other. */
export function* eachRange(ranges: Ranges): Generator<readonly [offset: number, length: number]> {
  for (let index = 0; index < ranges.length; index += 2) yield [ranges[index]!, ranges[index + 1]!];
}
