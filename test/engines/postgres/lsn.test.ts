import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { AppError } from '../../../src/base/errors.ts';
import { GIB, MIB } from '../../../src/base/sizes.ts';
import {
  classifyLogFileName,
  formatLsn,
  isSegmentSize,
  nextSegment,
  parseLsn,
  parseSegmentName,
  segmentName,
  segmentStart,
} from '../../../src/engines/postgres/lsn.ts';

const anyLsn = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
const anySegmentSize = fc.integer({ min: 20, max: 30 }).map(power => 2 ** power);
const anyTimeline = fc.integer({ min: 1, max: 0xffff_ffff });

describe('log positions', () => {
  test('written and read - the same position', () => {
    fc.assert(fc.property(anyLsn, lsn => parseLsn(formatLsn(lsn)) === lsn));
    expect(formatLsn(0x16_b374_d848n)).toBe('16/B374D848');
    expect(formatLsn(0x1n)).toBe('0/1');
    expect(parseLsn('ffffffff/ffffffff')).toBe(0xffff_ffff_ffff_ffffn);
  });

  test.each(['', '0', '0/', '/0', '0/0/0', '123456789/0', '0x1/0', ' 0/1', '0/1 ', '0/G', '-1/0'])(
    'text that is no position (%j) - refused as usage',
    text => {
      expect(() => parseLsn(text)).toThrow(expect.objectContaining({ code: 'USAGE' }) as AppError);
    },
  );
});

describe('segments', () => {
  test('segment sizes - powers of two from 1 MB to 1 GB', () => {
    for (const size of [MIB, 16 * MIB, GIB]) expect(isSegmentSize(size)).toBe(true);
    for (const size of [0, -MIB, MIB / 2, 3 * MIB, 2 * GIB, 1.5 * MIB, Number.NaN])
      expect(isSegmentSize(size)).toBe(false);
  });

  // Each pair is what `select pg_walfile_name(lsn)` answers on a server with that segment size.
  test.each([
    [1, '0/1000028', 16 * MIB, '000000010000000000000001'],
    [1, '16/B374D848', 16 * MIB, '0000000100000016000000B3'],
    [0x2a, '1/1', MIB, '0000002A0000000100000000'],
    [1, '0/FFFFFFFF', MIB, '000000010000000000000FFF'],
    [1, '7/C0000001', GIB, '000000010000000700000003'],
  ])('timeline %i, %s, segments of %i bytes - %s', (timeline, lsn, size, name) => {
    expect(segmentName(timeline, parseLsn(lsn), size)).toBe(name);
  });

  test('any position in a segment - its name leads back to its start', () => {
    fc.assert(
      fc.property(anyTimeline, anyLsn, anySegmentSize, (timeline, lsn, size) => {
        const start = segmentStart(lsn, size);
        expect(start <= lsn && lsn < nextSegment(lsn, size)).toBe(true);
        expect(parseSegmentName(segmentName(timeline, lsn, size), size)).toEqual({ timeline, lsn: start });
      }),
    );
  });
});

describe('names of log files', () => {
  const size = 16 * MIB;

  test.each([
    ['00000003000000020000000A', { kind: 'segment', timeline: 3, lsn: 0x2_0a00_0000n }],
    ['00000003000000020000000A.partial', { kind: 'partial', timeline: 3, lsn: 0x2_0a00_0000n }],
    ['00000003.history', { kind: 'history', timeline: 3 }],
    ['00000003000000020000000A.00000028.backup', { kind: 'backup', timeline: 3, lsn: 0x2_0a00_0028n }],
  ])('%s - recognised', (name, file) => {
    expect(classifyLogFileName(name, size)).toEqual(file);
    const { kind, timeline } = file;
    expect(classifyLogFileName(name)).toEqual({ kind, timeline });
  });

  test.each([
    '',
    'archive_status',
    '00000003000000020000000',
    '00000003000000020000000a',
    '00000000000000020000000A',
    '000000030000000200000100',
    '00000003000000020000000A.tmp',
    '00000003000000020000000A.backup',
    '00000003000000020000000A.01000000.backup',
    '00000003.history.tmp',
    'xlogtemp.42',
    '../00000003.history',
    '00000003000000020000000A\n',
  ])('%j - none of the log', name => {
    expect(classifyLogFileName(name, size)).toBeNull();
  });

  test('a segment number that only smaller segments can have - refused for this size, read for the smaller', () => {
    expect(parseSegmentName('000000010000000000000100', 16 * MIB)).toBeNull();
    expect(parseSegmentName('000000010000000000000100', MIB)?.lsn).toBe(0x1000_0000n);
    expect(parseSegmentName('000000010000000000000001.partial', size)).toBeNull();
  });
});
