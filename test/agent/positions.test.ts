import fc from 'fast-check';
import { expect, test } from 'vitest';
import { agentName } from '../../src/agent/agent-names.ts';
import { nextPartStart } from '../../src/agent/part-schedule.ts';
import { resumePosition, timelineAt } from '../../src/agent/resume-position.ts';
import { slotWarning } from '../../src/agent/slot-watch.ts';
import { joinableParts, parsePartName, partName, reachOf } from '../../src/repository/log-parts.ts';

const MIB = 1024 * 1024;
const at = (segment: number, offset = 0): bigint => BigInt(segment * MIB + offset);

test('pieces by the schedule - few make up the segment, and no byte is stored more often than their number doubles', () => {
  const steps = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 300 });
  fc.assert(
    fc.property(steps, lengths => {
      const ends: number[] = [];
      let stored = 0;
      const parts = lengths.map(length => {
        const to = (ends.at(-1) ?? 0) + length;
        const from = nextPartStart(ends);
        stored += to - from;
        ends.push(to);
        return parsePartName(partName('0'.repeat(24), from, to))!;
      });
      const most = Math.ceil(Math.log2(lengths.length + 1));
      expect(reachOf(parts)).toBe(ends.at(-1));
      expect(joinableParts(parts).length).toBeLessThanOrEqual(most);
      expect(stored).toBeLessThanOrEqual(ends.at(-1)! * most);
    }),
  );
  // An agent that was started anew knows only how far they reach.
  expect(nextPartStart([700])).toBe(0);
  expect(nextPartStart([700, 900])).toBe(900);
});

test('where to go on - behind what is known of the server’s own history, always at the start of a segment', () => {
  const first = [{ timeline: 1, begin: 0n }];
  const second = [...first, { timeline: 2, begin: at(5, 700) }];
  const resume = (chain: typeof first, ends: Record<number, bigint>) =>
    resumePosition(chain, new Map(Object.entries(ends).map(([key, end]) => [Number(key), end])), MIB);
  expect(resume(first, {})).toBeNull();
  expect(resume(first, { 1: at(3, 9) })).toEqual({ timeline: 1, lsn: at(3) });
  expect(resume(first, { 1: at(4) })).toEqual({ timeline: 1, lsn: at(4) });
  // The rest of the timeline that was left is still to come.
  expect(resume(second, { 1: at(3, 9) })).toEqual({ timeline: 1, lsn: at(3) });
  // What was written beyond the place where it was left belongs to another history.
  expect(resume(second, { 1: at(5, 700) })).toEqual({ timeline: 2, lsn: at(5) });
  expect(resume(second, { 1: at(9) })).toEqual({ timeline: 2, lsn: at(5) });
  expect(resume(second, { 1: at(9), 2: at(6, 1) })).toEqual({ timeline: 2, lsn: at(6) });
  // A timeline that the server is not on says nothing.
  expect(resume(second, { 3: at(9) })).toBeNull();
  expect(timelineAt(second, at(4), MIB)).toBe(1);
  // The segment it begins in lies under its own name, from the first byte on.
  expect([timelineAt(second, at(5), MIB), timelineAt(second, at(8), MIB)]).toEqual([2, 2]);
});

test('names on the server - letters, digits and underscores, never longer than PostgreSQL keeps', () => {
  expect(agentName('shop')).toBe('aishell_shop');
  expect(agentName('eu-west.shop_1')).toBe('aishell_eu_west_shop_1');
  expect(agentName('x'.repeat(63)).length).toBe(63);
});

test('a slot - warned of before it is lost or fills the disk, and not before', () => {
  const GB = 1e9;
  const slot = {
    name: 's',
    activePid: 1,
    restartLsn: 0n,
    walStatus: 'reserved',
    safeBytes: null,
    retainedBytes: GB,
    limitBytes: null,
  };
  expect(slotWarning(slot, null)).toBeNull();
  expect(slotWarning(slot, 2 * GB)).toBeNull();
  expect(slotWarning(slot, GB / 2)).toContain('its disk has 500 MB left');
  expect(slotWarning({ ...slot, limitBytes: 3 * GB }, null)).toBeNull();
  expect(slotWarning({ ...slot, limitBytes: 1.5 * GB }, null)).toContain('max_slot_wal_keep_size = 1.5 GB');
  expect(slotWarning({ ...slot, walStatus: 'unreserved' }, null)).toContain('about to be lost');
  expect(slotWarning({ ...slot, walStatus: 'lost', retainedBytes: null }, null)).toContain('is lost');
});
