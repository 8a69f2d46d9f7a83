import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AppError } from '../../src/base/errors.ts';
import { formatMoment, parseMoment } from '../../src/base/moment.ts';

const now = new Date('2025-10-27T14:30:00Z');
const us = (iso: string, extra = 0n): bigint => BigInt(Date.parse(iso)) * 1000n + extra;
const refusal = (text: string, zone?: string): string => {
  try {
    parseMoment(text, now, zone);
  } catch (error) {
    if (error instanceof AppError && error.code === 'TIME_AMBIGUOUS') return error.message;
    throw error;
  }
  return 'accepted';
};

describe('parseMoment', () => {
  it.each([
    ['2025-10-27 13:59:59', us('2025-10-27T13:59:59Z')],
    ['2025-10-27T13:59:59.123456Z', us('2025-10-27T13:59:59.123Z', 456n)],
    ['2025-10-27t13:59:59z', us('2025-10-27T13:59:59Z')],
    ['2025-10-27 13:59:59.942', us('2025-10-27T13:59:59.942Z')],
    ['2025-10-27 13:59', us('2025-10-27T13:59:00Z')],
    ['2025-10-27 13:59:59+02:00', us('2025-10-27T11:59:59Z')],
    ['2025-10-27 13:59:59 -0330', us('2025-10-27T17:29:59Z')],
    ['2025-10-27 13:59:59+02', us('2025-10-27T11:59:59Z')],
    ['2025-10-27 13:59:59 UTC', us('2025-10-27T13:59:59Z')],
    ['2025-07-01 12:00 Europe/Berlin', us('2025-07-01T10:00:00Z')],
    ['14:00', us('2025-10-27T14:00:00Z')],
    ['today 14:00:05', us('2025-10-27T14:00:05Z')],
    ['yesterday 14:45', us('2025-10-26T14:45:00Z')],
    ['yesterday at 14:45', us('2025-10-26T14:45:00Z')],
    ['10 minutes ago', us('2025-10-27T14:20:00Z')],
    ['1 hour 30 minutes ago', us('2025-10-27T13:00:00Z')],
    ['1 hour and 30 min ago', us('2025-10-27T13:00:00Z')],
    ['an hour ago', us('2025-10-27T13:30:00Z')],
    ['90s ago', us('2025-10-27T14:28:30Z')],
    ['2 weeks ago', us('2025-10-13T14:30:00Z')],
    ['now', us('2025-10-27T14:30:00Z')],
    ['2025-10-26 2:00:01 pm', us('2025-10-26T14:00:01Z')],
    ['2 PM', us('2025-10-27T14:00:00Z')],
    ['2:05pm', us('2025-10-27T14:05:00Z')],
    ['at 12 am', us('2025-10-27T00:00:00Z')],
    ['12:30:15 pm', us('2025-10-27T12:30:15Z')],
    ['yesterday at 2 pm', us('2025-10-26T14:00:00Z')],
    ['1 day ago at 15:00', us('2025-10-26T15:00:00Z')],
    ['3 days ago 2:30 pm +02:00', us('2025-10-24T12:30:00Z')],
    ['2 days ago', us('2025-10-25T14:30:00Z')],
  ])('%s - understood', (text, expected) => {
    expect(parseMoment(text, now)).toBe(expected);
  });

  it('no zone in the text - read in the zone given', () => {
    expect(parseMoment('2025-07-01 12:00', now, 'America/New_York')).toBe(us('2025-07-01T16:00:00Z'));
  });

  it('a time of day near midnight - on the day the zone has', () => {
    const late = new Date('2025-10-27T23:30:00Z');
    expect(parseMoment('00:10 Asia/Tokyo', late)).toBe(us('2025-10-27T15:10:00Z'));
  });

  it.each([
    ['2025-02-30 12:00', /there is no day 2025-02-30/],
    ['2025-10-27 24:00', /no time of day/],
    ['2025-10-27 12:60', /no time of day/],
    ['2025-10-27 12:00:60', /no time of day/],
    ['2025-10-27', /time of day is missing/],
    ['27.10.2025 14:00', /either way round/],
    ['10/11/2025', /either way round/],
    ['2025-10-27 13:59:59.1234567', /finer than a microsecond/],
    ['2025-10-27 13:59:59 CET', /'CET' can mean more than one/],
    ['2025-10-27 13:59:59 Mars/Olympus', /no time zone 'Mars\/Olympus'/],
    ['2025-10-27 13:59:59+99', /no offset/],
    ['15:00', /still to come/],
    ['3 pm', /still to come/],
    ['13 pm', /no time of day 13 pm/],
    ['0 am', /no time of day 0 am/],
    ['2:60 pm', /no time of day/],
    ['1 day ago at 02:30 Europe/Berlin', /comes twice in Europe.Berlin/],
    ['3 months ago', /'months' is not a unit/],
    ['before the delete on users', /not understood/],
    ['', /not understood/],
    ['99999999 weeks ago', /before 1970/],
    ['-1 hours ago', /not understood/],
  ])('%s - refused with what was understood', (text, message) => {
    expect(refusal(text)).toMatch(message);
  });

  it('clocks go back - refused with both moments', () => {
    expect(refusal('2025-10-26 02:30 Europe/Berlin')).toMatch(
      /comes twice in Europe\/Berlin: 2025-10-26 00:30:00 UTC or 2025-10-26 01:30:00 UTC/,
    );
  });

  it('clocks go forward - refused as never having been', () => {
    expect(refusal('2025-03-30 02:30 Europe/Berlin')).toMatch(/skip that time/);
  });

  it('any moment - reads back what was formatted', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 4_102_444_800_000_000n }), value => {
        expect(parseMoment(formatMoment(value), now)).toBe(value);
      }),
    );
  });

  it('any text - a moment or TIME_AMBIGUOUS, nothing else', () => {
    const piece = fc.constantFrom(
      '2025-10-27',
      '14:00',
      ' ',
      'T',
      'ago',
      '5',
      'minutes',
      '+',
      'Z',
      'yesterday',
      '.',
      ':',
      '99',
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(piece).map(parts => parts.join('')),
        ),
        text => {
          try {
            expect(typeof parseMoment(text, now)).toBe('bigint');
          } catch (error) {
            expect(error).toMatchObject({ code: 'TIME_AMBIGUOUS' });
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe('formatMoment', () => {
  it.each([
    [us('2025-10-27T13:59:59Z'), '2025-10-27 13:59:59 UTC'],
    [us('2025-10-27T13:59:58.942Z'), '2025-10-27 13:59:58.942 UTC'],
    [us('2025-10-27T13:59:58.942Z', 7n), '2025-10-27 13:59:58.942007 UTC'],
  ])('%s - as many digits as needed', (value, text) => {
    expect(formatMoment(value)).toBe(text);
  });
});
