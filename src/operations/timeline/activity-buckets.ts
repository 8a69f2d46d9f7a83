import type { SecondTotals } from '../../engines/postgres/segment-summary.ts';
import type { RelationFile } from '../../engines/postgres/wal-transactions.ts';

/** What was committed in a stretch of time. */
export interface ActivityBucket {
  /** Seconds since 1970 at which it begins. */
  readonly second: number;
  readonly commits: number;
  readonly inserted: number;
  readonly updated: number;
  readonly deleted: number;
}

export interface ActivityBuckets {
  readonly bucketSeconds: number;
  readonly buckets: readonly ActivityBucket[];
}

/** Stretches that people think in, up to a day; longer ones are days. */
const STEPS = [
  1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 3600, 7200, 10_800, 14_400, 21_600,
  43_200, 86_400,
];

/** The shortest stretch of which at most `most` cover a time. */
export function bucketSeconds(range: { readonly from: number; readonly to: number }, most: number): number {
  const fits = (step: number): boolean =>
    Math.floor(range.to / step) - Math.floor(range.from / step) + 1 <= most;
  const step = STEPS.find(fits);
  if (step !== undefined) return step;
  let days = 2;
  while (!fits(days * 86_400)) days += 1;
  return days * 86_400;
}

/** Adds up seconds in stretches of equal length; those in which nothing happened are there, with zeros. */
export function fillBuckets(
  seconds: Iterable<SecondTotals>,
  range: { readonly from: number; readonly to: number },
  options: { readonly most: number; readonly counts: (relation: RelationFile) => boolean },
): ActivityBuckets {
  const step = bucketSeconds(range, options.most);
  const begin = Math.floor(range.from / step) * step;
  const count = Math.floor((Math.floor(range.to / step) * step - begin) / step) + 1;
  const buckets = Array.from({ length: count }, (_, index) => ({
    second: begin + index * step,
    commits: 0,
    inserted: 0,
    updated: 0,
    deleted: 0,
  }));
  for (const { second, commits, rows } of seconds) {
    if (second < range.from || second > range.to) continue;
    const bucket = buckets[Math.floor((second - begin) / step)];
    if (bucket === undefined) continue;
    bucket.commits += commits;
    for (const each of rows) {
      if (!options.counts(each.relation)) continue;
      bucket.inserted += each.inserted;
      bucket.updated += each.updated;
      bucket.deleted += each.deleted;
    }
  }
  return { bucketSeconds: step, buckets };
}
