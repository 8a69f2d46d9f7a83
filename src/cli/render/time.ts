import { formatMoment } from '../../base/moment.ts';

/** An ISO 8601 time for people: `2025-10-27 14:05:32 UTC`. */
export function formatTime(iso: string): string {
  const ms = Date.parse(iso);
  return Number.isNaN(ms) ? iso : formatMoment(BigInt(Math.floor(ms / 1000)) * 1_000_000n);
}

/** With its fraction to the millisecond: `2025-10-27 14:05:32.145 UTC`. */
export function formatTimeFine(iso: string): string {
  const ms = Date.parse(iso);
  return Number.isNaN(ms) ? iso : formatMoment(BigInt(ms) * 1000n).replace(/(:\d\d) UTC$/, '$1.000 UTC');
}

/** The time of day alone: `14:05:32.145`. */
export function formatClock(iso: string): string {
  const ms = Date.parse(iso);
  return Number.isNaN(ms) ? iso : new Date(ms).toISOString().slice(11, 23);
}

/** The same without the zone, for columns whose heading says it. */
export function formatTimeShort(iso: string): string {
  return formatTime(iso).replace(/ UTC$/, '');
}

/** `8-12 minutes`, `20-40 seconds`. */
export function formatSecondsRange(low: number, high: number): string {
  const [size, unit] = high < 120 ? [1, 'seconds'] : high < 7200 ? [60, 'minutes'] : [3600, 'hours'];
  const [from, to] = [Math.max(1, Math.floor(low / size)), Math.max(1, Math.ceil(high / size))];
  return from === to ? `${to} ${to === 1 ? unit.slice(0, -1) : unit}` : `${from}-${to} ${unit}`;
}
