/**
 * Where the next piece of an unfinished segment begins. Each piece that only went on where the last one ended would make
 * a segment that fills in a day a chain of thousands; each one from 0 on would store the segment thousands of times.
 * So, as in a binary counter, the n-th piece takes in as many before it as the lowest set bit of n says: log2(n) pieces
 * make up n, and every byte is stored log2(n) times at most.
 *
 * @param ends where the pieces so far ended, in order
 */
export function nextPartStart(ends: readonly number[]): number {
  const count = ends.length + 1;
  const taken = count & -count;
  return ends[count - taken - 1] ?? 0;
}
