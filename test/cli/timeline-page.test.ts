import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createPage } from '../../src/cli/render/page.ts';
import { sparkline } from '../../src/cli/render/sparkline.ts';
import { styleFor } from '../../src/cli/render/style.ts';
import { barsWithin, drawTimeline } from '../../src/cli/render/timeline-page.ts';
import type { TimelineReport } from '../../src/operations/timeline/timeline-report.ts';

const LONG = 'a_table_whose_name_is_as_long_as_postgresql_lets_it_be_63_letters';
const rows = { partitionOf: null, estimatedRows: null, inserted: 3_200_000, updated: 0, deleted: 3_214_567 };

function report(bars: number, more: Partial<TimelineReport> = {}): TimelineReport {
  const bucket = (index: number): TimelineReport['buckets'][number] => ({
    time: new Date(Date.UTC(2025, 9, 27, 13) + index * 60_000).toISOString().replace('Z', '000Z'),
    commits: index,
    inserted: index === 3 ? 1_000_000_000 : 0,
    updated: 0,
    deleted: index % 7,
  });
  return {
    instance: 'production',
    timeline: 2,
    from: '2025-10-27T13:00:00.000000Z',
    to: '2025-10-27T14:00:00.000000Z',
    table: null,
    log: {
      from: '1F/34000000',
      to: '1F/FF000000',
      segments: 234,
      gaps: [{ missing: '000000020000001F00000035', from: '1F/35000000', to: '1F/36000000' }],
      switches: [{ timeline: 2, lsn: '1F/38000000' }],
    },
    bucketSeconds: 60,
    buckets: Array.from({ length: bars }, (_, index) => bucket(index)),
    totals: { commits: 1_234_567_890, inserted: 1_000_000_000, updated: 0, deleted: 4 },
    tables: [
      { database: 'shop', schema: 'public', table: LONG, ...rows },
      { database: 'shop', schema: 'öffentlich', table: 'users\u001b[2J\n', ...rows },
    ],
    otherTables: 3,
    transactions: [
      {
        xid: 730,
        time: '2025-10-27T14:00:23.145678Z',
        summary: `deleted 3,214,567 rows of shop: public.${LONG} (about 100 %)`,
        kind: 'delete',
        tables: [{ database: 'shop', schema: 'public', table: LONG, ...rows, inserted: 0 }],
        acts: [],
        firstLsn: '1F/B374D848',
        commitLsn: '1F/C374D848',
        gid: null,
        atMostSeconds: 8.3,
        restore: 'aishell backup restore --xid 730',
        undo: 'aishell backup undo --xid 730',
      },
    ],
    otherTransactions: 0,
    usualTransactions: 24,
    prepared: [{ xid: 731, gid: 'in doubt', time: null }],
    restorePoints: [
      {
        name: 'evening',
        time: '2025-10-27T13:30:00.000000Z',
        restore: 'aishell backup restore --restore-point evening',
      },
    ],
    problems: [],
    ...more,
  };
}

function draw(width: number, color: boolean, more: Partial<TimelineReport> = {}): string[] {
  const lines: string[] = [];
  const page = createPage(styleFor(color), line => lines.push(line));
  drawTimeline(page, report(barsWithin(width), more), width);
  return lines;
}

test.each([60, 80, 100, 140, 250])(
  'a terminal of %i columns - no line is wider, but for names and commands, which are not cut',
  width => {
    for (const line of draw(width, false)) {
      if (line.includes(LONG) || /^ *aishell /.test(line)) continue;
      expect([...line].length, line).toBeLessThanOrEqual(width);
    }
  },
);

test('the page - bars with totals, tables, transactions with the command, nothing that steers a terminal', () => {
  const text = draw(80, false).join('\n');
  expect(text).toContain('one minute in each column');
  expect(text).toMatch(/commits\s+·▁.*█ {2}1,234,567,890/);
  expect(text).toMatch(/updated\s+·+ {2}0\n/);
  expect(text).toContain('2025-10-27 14:00:23.145678 UTC  transaction 730');
  expect(text).toContain('\n    to just before it: aishell backup restore --xid 730\n');
  expect(text).toContain('\n    its rows alone: aishell backup undo --xid 730\n');
  expect(text).toContain('took at most 8.3s, log 1F/B374D848 to 1F/C374D848');
  expect(text).toContain('24 large ones are usual for their tables');
  expect(text).toContain('000000020000001F00000035 is missing');
  expect(text).toContain('users�[2J�');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: without colour there is none
  expect(text).not.toMatch(/\u001b/);
  expect(draw(80, true).join('\n')).toContain('\u001b[31m');
});

test('one table only, nothing in it - no row of commits, and that it is so', () => {
  const text = draw(80, false, { table: 'users', transactions: [], usualTransactions: 0 }).join('\n');
  expect(text).not.toContain('commits');
  expect(text).toContain('Nothing stands out');
});

test('bars - every value above zero is seen, the highest is full, as many as there are values', () => {
  expect(sparkline([0, 1, 1_000_000, 500_000])).toBe('·▁█▄');
  expect(sparkline([])).toBe('');
  fc.assert(
    fc.property(fc.array(fc.nat()), values => {
      const bars = [...sparkline(values)];
      expect(bars.length).toBe(values.length);
      const most = Math.max(...values);
      for (const [index, value] of values.entries()) {
        expect(bars[index] === '·').toBe(value === 0);
        if (value > 0 && value === most) expect(bars[index]).toBe('█');
      }
    }),
  );
});
