import { expect, test } from 'vitest';
import { type Finding, isAllowed, judge, type RuledTable, rowLimit } from '../../src/watch/rules.ts';
import type { WatchSettings } from '../../src/watch/watch-settings.ts';

const settings: WatchSettings = {
  ...{ enabled: true, policy: 'hold', rows: 100_000, share: 0.5, shareRows: 1000, lostTableRows: 1000 },
  ...{ rate: true, tables: [], roles: [], allow: [], holdForMs: 1, holdLimitBytes: 1, showQuery: false },
};
const users: RuledTable = { database: 'shop', schema: 'public', table: 'users', also: null, rows: 3_200_000 };
const at = new Date('2026-11-28T03:00:00Z');
const nobody = { actor: null, usualRows: 0, at };

function deleted(rows: number, table = users): Finding {
  return { table, act: 'delete', rows };
}

test('rows of a large table - an alert from the limit on, and how sure it is', () => {
  expect(judge(settings, deleted(99_999), nobody)).toBeNull();
  expect(judge(settings, deleted(100_000), nobody)).toMatchObject({
    policy: 'hold',
    rule: {
      name: 'rows',
      confidence: 'likely',
      explanation:
        '100,000 rows of public.users deleted, 3.1 % of about 3,200,000; the limit is 100,000 rows in one transaction',
    },
  });
  expect(judge(settings, deleted(3_200_000), nobody)?.rule.confidence).toBe('certain');
  // Nobody knows how many it had.
  expect(judge(settings, deleted(100_000, { ...users, rows: null }), nobody)?.rule.confidence).toBe('likely');
});

test('the share of a small table - counts for tables, and from rows on, that matter', () => {
  const small = { ...users, rows: 3000 };
  expect(rowLimit(settings, { table: small, actor: null, usualRows: 0 })).toEqual({
    ...{ rows: 1500, rule: 'share', limit: 0.5 },
  });
  expect(judge(settings, deleted(1500, small), nobody)?.rule.name).toBe('share');
  expect(judge(settings, deleted(1499, small), nobody)).toBeNull();
  // All of it, but few rows.
  expect(judge(settings, deleted(999, { ...users, rows: 999 }), nobody)).toBeNull();
  expect(judge({ ...settings, share: null }, deleted(3000, small), nobody)).toBeNull();
});

test('a table truncated or dropped - by the rows it had', () => {
  const lost = (rows: number | null): Finding => ({ table: { ...users, rows }, act: 'truncate', rows: null });
  expect(judge(settings, lost(1000), nobody)?.rule).toMatchObject({
    name: 'truncate',
    confidence: 'certain',
  });
  expect(judge(settings, lost(999), nobody)).toBeNull();
  expect(judge(settings, lost(null), nobody)).toBeNull();
});

test('limits of a table and of a role - the table is nearer', () => {
  const own: WatchSettings = {
    ...settings,
    tables: [{ table: 'public.sess*', rows: 1_000_000, share: null, policy: 'alert' }],
    roles: [{ role: 'etl', rows: 5_000_000, policy: null }],
  };
  const etl = { role: 'etl', application: null };
  const sessions = { ...users, table: 'sessions', rows: 2_000_000 };
  expect(judge(own, deleted(999_999, sessions), nobody)).toBeNull();
  expect(judge(own, deleted(1_000_000, sessions), { ...nobody, actor: etl })?.policy).toBe('alert');
  expect(judge(own, deleted(100_000), { ...nobody, actor: etl })).toBeNull();
  expect(
    judge(own, deleted(100_000), { ...nobody, actor: { role: 'app', application: null } }),
  ).not.toBeNull();
});

test('what is usual for a table - three times as much is not', () => {
  const often = { ...nobody, usualRows: 400_000 };
  expect(judge(settings, deleted(1_199_999), often)).toBeNull();
  expect(judge(settings, deleted(1_200_000), often)).not.toBeNull();
});

test('what is allowed - everything that an entry names must be so', () => {
  const allowed = (entry: Partial<WatchSettings['allow'][number]>): WatchSettings => ({
    ...settings,
    allow: [{ tables: [], roles: [], applications: [], between: null, ...entry }],
  });
  const purger = { role: 'purger', application: 'cron' };
  const is = (
    entry: Partial<WatchSettings['allow'][number]>,
    actor: typeof purger | null = purger,
  ): boolean => isAllowed(allowed(entry), users, { actor, at });
  expect(is({ tables: ['users'] })).toBe(true);
  expect(is({ tables: ['shop.public.*'] })).toBe(true);
  expect(is({ tables: ['user'] })).toBe(false);
  expect(is({ tables: ['us.rs'] })).toBe(false);
  expect(is({ roles: ['purge*'], applications: ['cron'] })).toBe(true);
  expect(is({ roles: ['purger'], applications: ['psql'] })).toBe(false);
  expect(is({ roles: ['purger'] }, null)).toBe(false);
  expect(is({ between: { fromMinute: 170, toMinute: 190 } })).toBe(true);
  expect(is({ between: { fromMinute: 181, toMinute: 190 } })).toBe(false);
  expect(is({ between: { fromMinute: 1380, toMinute: 181 } })).toBe(true);
  // Its partitions, and the whole of a partition.
  const partition = { ...users, table: 'logs_7', also: { schema: 'public', table: 'logs' } };
  expect(isAllowed(allowed({ tables: ['logs'] }), partition, { actor: null, at })).toBe(true);
  expect(isAllowed(settings, { ...users, schema: 'repack', table: 'table_1' }, { actor: null, at })).toBe(
    true,
  );
});
