import fc from 'fast-check';
import { expect, test } from 'vitest';
import { bucketSeconds, fillBuckets } from '../../../src/operations/timeline/activity-buckets.ts';
import { fileOf } from './summaries.ts';

test.each([
  [0, 59, 60, 1],
  [0, 60, 60, 2],
  [0, 86_399, 1440, 60],
  [30, 86_400 + 29, 54, 1800],
  [0, 365 * 86_400, 54, 7 * 86_400],
])('from %i to %i seconds in at most %i - %i seconds each', (from, to, most, expected) => {
  expect(bucketSeconds({ from, to }, most)).toBe(expected);
});

test('any seconds, any range - nothing within it is lost, nothing outside of it counts, and it fits', () => {
  const second = fc.record({
    second: fc.integer({ min: 0, max: 5000 }),
    commits: fc.nat(9),
    rows: fc.nat(99),
  });
  fc.assert(
    fc.property(
      fc.array(second),
      fc.integer({ min: 0, max: 5000 }),
      fc.integer({ min: 0, max: 5000 }),
      fc.integer({ min: 1, max: 200 }),
      (seconds, a, b, most) => {
        const range = { from: Math.min(a, b), to: Math.max(a, b) };
        const totals = seconds.map(({ second: at, commits, rows }) => ({
          second: at,
          commits,
          aborts: 0,
          rows: [
            { relation: fileOf(20001), inserted: rows, updated: 0, deleted: 1 },
            { relation: fileOf(1259), inserted: 7, updated: 7, deleted: 7 },
          ],
        }));
        const counts = (relation: { readonly file: number }): boolean => relation.file === 20001;
        const { buckets, bucketSeconds: step } = fillBuckets(totals, range, { most, counts });
        expect(buckets.length).toBeLessThanOrEqual(most);
        const within = seconds.filter(each => each.second >= range.from && each.second <= range.to);
        const sum = (of: (bucket: (typeof buckets)[number]) => number): number =>
          buckets.reduce((all, bucket) => all + of(bucket), 0);
        expect(sum(bucket => bucket.commits)).toBe(within.reduce((all, each) => all + each.commits, 0));
        expect(sum(bucket => bucket.inserted)).toBe(within.reduce((all, each) => all + each.rows, 0));
        expect(sum(bucket => bucket.deleted)).toBe(within.length);
        expect(buckets.every((bucket, index) => bucket.second === buckets[0]!.second + index * step)).toBe(
          true,
        );
        expect(buckets[0]!.second).toBeLessThanOrEqual(range.from);
      },
    ),
  );
});
