import { expect, test } from 'vitest';
import { Baseline, type RateFinding } from '../../src/watch/baseline.ts';
import type { RuledTable } from '../../src/watch/rules.ts';
import { seeded } from '../support/seeded.ts';

const users: RuledTable = { database: 'shop', schema: 'public', table: 'users', also: null, rows: 1e6 };
const MINUTE = 60_000;
const DAY = 86_400_000;
const start = Date.UTC(2026, 10, 2);
const LEAST = 10_000;

/** Ordinary days: traffic that swings with the hours, and a batch at 2:00 that changes a hundred times as much. */
function live(baseline: Baseline, days: { readonly from: number; readonly to: number }): RateFinding[] {
  const random = seeded(days.from + 1);
  const found: RateFinding[] = [];
  for (let ms = start + days.from * DAY; ms < start + days.to * DAY; ms += MINUTE) {
    const hour = Math.floor(ms / 3_600_000) % 24;
    const byDay = 200 + 150 * Math.sin((hour / 24) * 2 * Math.PI);
    const batch = hour === 2 ? 20_000 : 0;
    const rows = Math.floor((byDay + batch) * (0.5 + random(1000) / 1000));
    const finding = baseline.add(users, rows, { ms, least: LEAST });
    if (finding !== null) found.push(finding);
  }
  return found;
}

test('30 ordinary days - no alarm; a rate far beyond what is usual at that hour is one, once', () => {
  const baseline = new Baseline(null, start);
  expect(live(baseline, { from: 0, to: 30 })).toEqual([]);
  // What is usual at two is not at four in the afternoon.
  const afternoon = start + 30 * DAY + 16 * 60 * MINUTE;
  const add = (ms: number): RateFinding | null => baseline.add(users, 20_000, { ms, least: LEAST });
  const first = add(afternoon);
  expect(first).toMatchObject({ rows: 20_000, table: users });
  expect(first!.usual).toBeLessThan(2000);
  expect(add(afternoon + MINUTE)).toBeNull();
  expect(add(start + 31 * DAY + 2 * 60 * MINUTE)).toBeNull();
});

test('the first days - nothing is told of rates, as everything is new', () => {
  const baseline = new Baseline(null, start);
  expect(baseline.add(users, 1e6, { ms: start + 2 * DAY, least: LEAST })).toBeNull();
  expect(baseline.add(users, 1e6, { ms: start + 4.5 * DAY, least: LEAST })).not.toBeNull();
});

test('what is usual fades - and outlives a restart', () => {
  const baseline = new Baseline(null, start);
  live(baseline, { from: 0, to: 10 });
  const again = new Baseline(JSON.parse(JSON.stringify(baseline.state)), start + 10 * DAY);
  const night = (day: number): number => start + day * DAY + 2 * 60 * MINUTE;
  expect(again.add(users, 100_000, { ms: night(10), least: LEAST })).toBeNull();
  // Months later nobody remembers the batch.
  const much = new Baseline(JSON.parse(JSON.stringify(baseline.state)), start);
  expect(much.add(users, 100_000, { ms: night(70), least: LEAST })).not.toBeNull();
});

test('a large transaction - usual from its third day on, and no longer when it stays away', () => {
  const baseline = new Baseline(null, start);
  const purge = (day: number): void =>
    baseline.addLarge(users, { act: 'delete', rows: 500_000 + day }, start + day * DAY);
  purge(0);
  purge(1);
  expect(baseline.usualRows(users, 'delete')).toBe(0);
  purge(1);
  expect(baseline.usualRows(users, 'delete')).toBe(0);
  purge(2);
  expect(baseline.usualRows(users, 'delete')).toBe(500_000);
  expect(baseline.usualRows(users, 'update')).toBe(0);
  purge(30);
  expect(baseline.usualRows(users, 'delete')).toBe(0);
});
