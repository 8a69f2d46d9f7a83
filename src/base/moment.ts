import { AppError } from './errors.ts';
import { utcOffsetMs, zoneExists } from './time-zone.ts';

const US_PER_MS = 1000n;
const DAY_MS = 86_400_000;

const unitMs: Readonly<Record<string, number>> = {
  s: 1000,
  second: 1000,
  m: 60_000,
  min: 60_000,
  minute: 60_000,
  h: 3_600_000,
  hour: 3_600_000,
  d: DAY_MS,
  day: DAY_MS,
  w: 7 * DAY_MS,
  week: 7 * DAY_MS,
};

const datePattern = String.raw`(?<year>\d{4})-(?<month>\d{2})-(?<day>\d{2})`;
const timePattern = String.raw`(?<hour>\d{1,2}):(?<minute>\d{2})(?::(?<second>\d{2})(?:[.,](?<fraction>\d+))?)?`;
const zonePattern = String.raw`(?:\s*(?<offset>Z|[+-]\d{2}(?::?\d{2})?)|\s+(?<zone>[A-Za-z][A-Za-z0-9_+/-]*))?`;
const dateTime = new RegExp(`^${datePattern}(?:T|\\s+)${timePattern}${zonePattern}$`, 'i');
const dayPattern = String.raw`(?:(?:(?<named>today|yesterday)|(?<days>\d{1,4})\s+days?\s+ago)(?:\s+at)?\s+|at\s+)?`;
const halfDayPattern = String.raw`(?<hour>\d{1,2})(?::(?<minute>\d{2})(?::(?<second>\d{2}))?)?\s*(?<half>am|pm)`;
const dayTime = new RegExp(`^${dayPattern}${timePattern}${zonePattern}$`, 'i');
const dateHalfDayTime = new RegExp(`^${datePattern}\\s+${halfDayPattern}${zonePattern}$`, 'i');
const halfDayTime = new RegExp(`^${dayPattern}${halfDayPattern}${zonePattern}$`, 'i');

type Fields = Readonly<Record<string, string | undefined>>;

interface Day {
  readonly year: number;
  readonly month: number;
  readonly day: number;
}

/**
 * Reads a moment as people write it: ISO 8601 (`2025-10-27T13:59:59.123456Z`, a space for the T, an offset or a zone's
 * name after it), `14:00`, `2 pm`, `yesterday 14:00` and `3 days ago at 14:00`, `10 minutes ago`, `now`. Without a zone it
 * is in `zone`.
 *
 * @returns microseconds since 1970 in UTC; it may lie in the future when a date is written out
 * @throws TIME_AMBIGUOUS impossible, incomplete, in a gap or fold of daylight saving time, or not understood
 */
export function parseMoment(text: string, now: Date, zone = 'UTC'): bigint {
  const trimmed = text.trim();
  if (trimmed.length > 100) throw refuse(`${text.slice(0, 40)}…`, 'it is too long for a time');
  if (/^now$/i.test(trimmed)) return BigInt(now.getTime()) * US_PER_MS;
  const relative = parseAgo(trimmed, now);
  if (relative !== null) return relative;
  // First, as `pm` would pass for a zone.
  const full = of24Hours(text, dateHalfDayTime.exec(trimmed)?.groups) ?? dateTime.exec(trimmed)?.groups;
  if (full) return readMoment(text, full, { day: dayOf(text, full), zone });
  const short = of24Hours(text, halfDayTime.exec(trimmed)?.groups) ?? dayTime.exec(trimmed)?.groups;
  if (short) return parseDayTime(text, short, { now, zone });
  throw notUnderstood(text, trimmed);
}

/** `2025-10-27 13:59:59 UTC`, with as many digits after the second as it needs: none, three or six. */
export function formatMoment(us: bigint): string {
  const inSecond = ((us % 1_000_000n) + 1_000_000n) % 1_000_000n;
  const seconds = new Date(Number((us - inSecond) / US_PER_MS)).toISOString().slice(0, 19).replace('T', ' ');
  const digits = inSecond.toString().padStart(6, '0');
  const fraction = inSecond === 0n ? '' : `.${inSecond % 1000n === 0n ? digits.slice(0, 3) : digits}`;
  return `${seconds}${fraction} UTC`;
}

/** `2025-10-27T13:59:59.123456Z`, always with microseconds. */
export function isoMoment(us: bigint): string {
  const inSecond = ((us % 1_000_000n) + 1_000_000n) % 1_000_000n;
  const seconds = new Date(Number((us - inSecond) / US_PER_MS)).toISOString().slice(0, 19);
  return `${seconds}.${inSecond.toString().padStart(6, '0')}Z`;
}

function parseAgo(text: string, now: Date): bigint | null {
  const match = /^(.+?)\s+ago$/i.exec(text);
  if (!match?.[1]) return null;
  const rest = match[1].replace(/^(an?|one)\s+/i, '1 ');
  if (!/^(\d+(\.\d+)?\s*[a-z]+[\s,]*(and\s+)?)+$/i.test(rest)) return null;
  let agoMs = 0;
  for (const [, count, word] of rest.matchAll(/(\d+(?:\.\d+)?)\s*([a-z]+)/gi)) {
    const name = (word ?? '').toLowerCase();
    const unit = unitMs[name] ?? unitMs[name.replace(/s$/, '')];
    if (unit === undefined) {
      throw refuse(
        text,
        `'${word}' is not a unit of fixed length`,
        'Use seconds, minutes, hours, days or weeks.',
      );
    }
    agoMs += Number(count) * unit;
  }
  const at = now.getTime() - agoMs;
  if (at < 0) throw refuse(text, 'that is before 1970');
  return BigInt(Math.round(at)) * US_PER_MS;
}

/** `2 pm` as a time of 24 hours. */
function of24Hours(text: string, fields: Fields | undefined): Fields | undefined {
  if (fields === undefined) return undefined;
  const hour = Number(fields.hour);
  if (hour < 1 || hour > 12)
    throw refuse(
      text,
      `there is no time of day ${fields.hour} ${fields.half}`,
      'With am or pm it goes from 1 to 12.',
    );
  const isAfternoon = fields.half?.toLowerCase() === 'pm';
  return { ...fields, hour: String((hour % 12) + (isAfternoon ? 12 : 0)), minute: fields.minute ?? '00' };
}

/** A time of day: today's, unless that is still to come, when nobody can know which day was meant. */
function parseDayTime(
  text: string,
  fields: Fields,
  { now, zone }: { readonly now: Date; readonly zone: string },
): bigint {
  const named = fields.named?.toLowerCase();
  const on = (daysBack: number): bigint =>
    readMoment(text, fields, { day: dayIn(zoneOf(text, fields, zone), now, daysBack), zone });
  if (named === 'yesterday') return on(1);
  if (fields.days !== undefined) return on(Number(fields.days));
  const today = on(0);
  if (named === 'today' || today <= BigInt(now.getTime()) * US_PER_MS) return today;
  throw refuse(
    text,
    `it was understood as ${formatMoment(today)}, which is still to come`,
    `Write 'yesterday ${text.trim()}' if you mean ${formatMoment(on(1))}.`,
  );
}

/** The zone a text names, as an IANA name or an offset in milliseconds. */
function zoneOf(text: string, fields: Fields, fallback: string): string | number {
  const { offset, zone } = fields;
  if (offset !== undefined) {
    if (offset.toUpperCase() === 'Z') return 'UTC';
    const hours = Number(offset.slice(1, 3));
    const minutes = Number(offset.slice(3).replace(':', '') || '0');
    if (hours > 15 || minutes > 59) throw refuse(text, `'${offset}' is no offset from UTC`);
    return (offset.startsWith('-') ? -1 : 1) * (hours * 3_600_000 + minutes * 60_000);
  }
  if (zone === undefined) return fallback;
  if (/^(utc|gmt)$/i.test(zone)) return 'UTC';
  // CET, EST, IST …: such letters mean different things to different people, and some are no more than names of others.
  if (!zone.includes('/')) {
    throw refuse(
      text,
      `the zone '${zone}' can mean more than one`,
      'Write an offset like +02:00, or a name like Europe/Berlin.',
    );
  }
  if (!zoneExists(zone))
    throw refuse(
      text,
      `there is no time zone '${zone}'`,
      'Write an offset like +02:00, or a name like Europe/Berlin.',
    );
  return zone;
}

function dayOf(text: string, fields: Fields): Day {
  const day = { year: Number(fields.year), month: Number(fields.month), day: Number(fields.day) };
  const date = new Date(Date.UTC(day.year, day.month - 1, day.day));
  if (
    date.getUTCFullYear() !== day.year ||
    date.getUTCMonth() !== day.month - 1 ||
    date.getUTCDate() !== day.day
  ) {
    throw refuse(text, `there is no day ${fields.year}-${fields.month}-${fields.day}`);
  }
  if (day.year < 1970) throw refuse(text, 'that is before 1970');
  return day;
}

function dayIn(zone: string | number, now: Date, daysBack: number): Day {
  const offset = typeof zone === 'number' ? zone : utcOffsetMs(zone, now.getTime());
  const local = new Date(now.getTime() + offset - daysBack * DAY_MS);
  return { year: local.getUTCFullYear(), month: local.getUTCMonth() + 1, day: local.getUTCDate() };
}

function readMoment(text: string, fields: Fields, on: { readonly day: Day; readonly zone: string }): bigint {
  const [hour, minute, second] = [Number(fields.hour), Number(fields.minute), Number(fields.second ?? '0')];
  if (hour > 23 || minute > 59 || second > 59) {
    throw refuse(
      text,
      `there is no time of day ${fields.hour}:${fields.minute}:${fields.second ?? '00'}`,
      'It goes from 00:00:00 to 23:59:59.',
    );
  }
  const fraction = fields.fraction ?? '';
  if (/[1-9]/.test(fraction.slice(6))) {
    throw refuse(
      text,
      'it is finer than a microsecond',
      'PostgreSQL keeps times in microseconds: give at most six digits.',
    );
  }
  const { day } = on;
  const localMs = Date.UTC(day.year, day.month - 1, day.day, hour, minute, second);
  const fractionUs = BigInt(fraction.slice(0, 6).padEnd(6, '0'));
  return BigInt(toUtcMs(text, localMs, zoneOf(text, fields, on.zone))) * US_PER_MS + fractionUs;
}

/** A local time may come twice in its zone, or never, where the clocks are changed. */
function toUtcMs(text: string, localMs: number, zone: string | number): number {
  if (typeof zone === 'number') return localMs - zone;
  const offsets = new Set([utcOffsetMs(zone, localMs - DAY_MS), utcOffsetMs(zone, localMs + DAY_MS)]);
  const found = [...offsets]
    .map(offset => localMs - offset)
    .filter(ms => utcOffsetMs(zone, ms) === localMs - ms);
  const [first, second] = found.sort((a, b) => a - b);
  if (first === undefined)
    throw refuse(text, `the clocks in ${zone} skip that time`, 'Write it with an offset, like +02:00.');
  if (second === undefined) return first;
  const both = `${formatMoment(BigInt(first) * US_PER_MS)} or ${formatMoment(BigInt(second) * US_PER_MS)}`;
  throw refuse(text, `that time comes twice in ${zone}: ${both}`, 'Write the one you mean.');
}

function notUnderstood(text: string, trimmed: string): AppError {
  if (new RegExp(`^${datePattern}$`).test(trimmed)) {
    return refuse(text, 'it is a day, and a time of day is missing', `Write it like '${trimmed} 13:59:59'.`);
  }
  if (/^\d{1,2}[./]\d{1,2}[./]\d{2,4}/.test(trimmed)) {
    return refuse(text, 'day and month could be either way round', "Write it like '2025-10-27 13:59:59'.");
  }
  return refuse(
    text,
    'it was not understood',
    "Write it like '2025-10-27 13:59:59', '14:00' or '10 minutes ago'.",
  );
}

function refuse(text: string, why: string, hint = "Write it like '2025-10-27 13:59:59 UTC'."): AppError {
  return new AppError('TIME_AMBIGUOUS', `unable to use the time '${text}': ${why}`, { hint });
}
