import { describe, expect, it } from 'vitest';
import { parseHotArguments } from '../../src/cli/hot/hot-arguments.ts';

const none = { config: undefined, instance: undefined };

describe('parseHotArguments', () => {
  it('as PostgreSQL runs them, and as wal-archive itself does - understood', () => {
    expect(parseHotArguments(['backup', 'wal-archive', 'pg_wal/0001'])).toEqual({
      ...none,
      name: 'wal-archive',
      path: 'pg_wal/0001',
    });
    expect(parseHotArguments(['backup', 'wal-archive-ahead', 'pg_wal/0001'])).toEqual({
      ...none,
      name: 'wal-archive-ahead',
      path: 'pg_wal/0001',
    });
    expect(parseHotArguments(['backup', 'wal-fetch', '0001', 'pg_wal/RECOVERYXLOG'])).toEqual({
      ...none,
      name: 'wal-fetch',
      fileName: '0001',
      path: 'pg_wal/RECOVERYXLOG',
    });
  });

  it('with --config and --instance, anywhere and in both forms - understood', () => {
    expect(parseHotArguments(['--config', '/a b', 'backup', '--instance=x', 'wal-archive', 'p q'])).toEqual({
      config: '/a b',
      instance: 'x',
      name: 'wal-archive',
      path: 'p q',
    });
  });

  it.each([
    [['backup', 'wal-archive']],
    [['backup', 'wal-archive', '']],
    [['backup', 'wal-archive', 'a', 'b']],
    [['backup', 'wal-fetch', 'a']],
    [['backup', 'wal-fetch', 'a', 'b', 'c']],
    [['backup', 'wal-archive', 'a', '--json']],
    [['backup', 'wal-archive', '--help']],
    [['backup', 'wal-archive', 'a', '--config']],
    [['backup', 'wal-archive', 'a', '--config=']],
    [['wal-archive', 'a']],
    [['backup', 'create', '--name', 'wal-archive']],
  ])('%j - left to the full command line', args => {
    expect(parseHotArguments(args)).toBeNull();
  });
});
