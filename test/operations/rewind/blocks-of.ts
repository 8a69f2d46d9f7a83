/** Of the pages in tests of rules, in bytes. */
export const BLOCK = 8192;

/** The blocks of ranges. */
export function blocksOf(ranges: readonly number[]): Set<number> {
  const blocks = new Set<number>();
  for (let index = 0; index < ranges.length; index += 2)
    for (let at = ranges[index]!; at < ranges[index]! + ranges[index + 1]!; at += BLOCK)
      blocks.add(at / BLOCK);
  return blocks;
}
