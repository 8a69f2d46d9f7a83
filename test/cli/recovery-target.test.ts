import { describe, expect, it } from 'vitest';
import { parseRecoveryTarget, type TargetOptions } from '../../src/cli/recovery-target.ts';

const now = new Date('2025-10-27T14:30:00Z');

describe('parseRecoveryTarget', () => {
  it.each<[TargetOptions, unknown]>([
    [{ latest: true }, { kind: 'latest' }],
    [{ backupId: 'a1b2c3' }, { kind: 'backup', id: 'a1b2c3' }],
    [{ pointInTime: '2025-10-27 13:59:59' }, { kind: 'time', timeUs: 1_761_573_599_000_000n }],
    [{ pointInTime: '10 minutes ago' }, { kind: 'time', timeUs: 1_761_574_800_000_000n }],
    [{ lsn: '0/34000028' }, { kind: 'lsn', lsn: 0x34000028n }],
    [{ xid: '4711' }, { kind: 'xid', xid: 4711, after: false }],
    [
      { xid: '4711', after: true },
      { kind: 'xid', xid: 4711, after: true },
    ],
    [{ restorePoint: 'before release 2.4' }, { kind: 'restore point', name: 'before release 2.4' }],
    [
      { pointInTime: 'before the last delete on users' },
      {
        kind: 'change',
        change: {
          text: 'before the last delete on users',
          change: 'delete',
          table: 'users',
          which: 'last',
          large: false,
          after: false,
        },
      },
    ],
    [{ beforeIncident: 'abc123' }, { kind: 'named incident', id: 'abc123' }],
    [{ xid: '4294972007' }, { kind: 'xid', xid: 4711, after: false }],
  ])('%j - understood', (options, expected) => {
    expect(parseRecoveryTarget(options, now)).toEqual(expected);
  });

  it.each<[TargetOptions, string, RegExp]>([
    [{}, 'USAGE', /no target was given/],
    [{ beforeIncident: 'a', lsn: '0/1' }, 'USAGE', /--lsn and --before-incident cannot go together/],
    [{ latest: true, xid: '5' }, 'USAGE', /--latest and --xid cannot go together/],
    [{ latest: true, after: true }, 'USAGE', /--after goes with --xid only/],
    [{ xid: '5', restorePoint: 'x' }, 'USAGE', /--xid and --restore-point cannot go together/],
    [{ pointInTime: 'before the storm' }, 'TIME_AMBIGUOUS', /before the storm/],
    [{ xid: '-1' }, 'USAGE', /transaction '-1'/],
    [{ xid: '2' }, 'USAGE', /transaction '2'/],
    [{ xid: 'x' }, 'USAGE', /transaction 'x'/],
    [{ xid: '99999999999999999999' }, 'USAGE', /transaction/],
    [{ lsn: 'zzz' }, 'USAGE', /zzz/],
    [{ pointInTime: 'tomorrow' }, 'TIME_AMBIGUOUS', /tomorrow/],
  ])('%j - refused', (options, code, message) => {
    try {
      parseRecoveryTarget(options, now);
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    }
  });
});
