import { assert } from './errors.ts';

export const KIB = 1024;
export const MIB = 1024 * 1024;
export const GIB = 1024 * MIB;

/** Bytes for people, decimal units: `13.6 GB`, `412 kB`, `17 B`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  if (unit === 0) return `${Math.round(value)} B`;
  return `${value >= 99.95 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

/** A size as people write it in a configuration, in decimal units: `500MB`, `8GB`. */
export const SIZE = /^(\d{1,6})(MB|GB|TB)$/;

const unitBytes = { MB: 1e6, GB: 1e9, TB: 1e12 } as const;

/** Bytes of `500MB`, `8GB` or `2TB`. Anything else is a mistake of the caller, which has checked it with SIZE. */
export function parseSize(text: string): number {
  const match = SIZE.exec(text);
  assert(match !== null, `'${text}' is no size`);
  return Number(match[1]) * unitBytes[match[2] as keyof typeof unitBytes];
}

/** A count with thousands separators: `3,214,567`. */
export function formatCount(count: number): string {
  return Math.round(count).toLocaleString('en-US');
}

/** A count with what is counted, whose plural ends in s: `1 segment`, `1,267 files`. */
export function counted(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;
}

/** A share from 0 to 1 for people: `58 %`; 0 and 100 only where it is exactly that. */
export function formatShare(share: number): string {
  const percent = share * 100;
  if (share > 0 && percent < 1) return 'less than 1 %';
  return `${share < 1 && percent > 99 ? Math.floor(percent * 10) / 10 : Math.round(percent)} %`;
}

/** Seconds for people: `0.4s`, `12.3s`, `9m 38s`, `2h 5m`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(seconds < 0.95 ? 2 : 1)}s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${whole % 60}s`;
  return `${Math.floor(whole / 3600)}h ${Math.floor((whole % 3600) / 60)}m`;
}

/** How long ago: `12 minutes ago`. */
export function formatAge(ms: number): string {
  const steps: readonly [number, string][] = [
    [86_400_000, 'day'],
    [3_600_000, 'hour'],
    [60_000, 'minute'],
    [1000, 'second'],
  ];
  for (const [size, unit] of steps) {
    const count = Math.floor(ms / size);
    if (count >= 1) return `${count} ${unit}${count === 1 ? '' : 's'} ago`;
  }
  return 'just now';
}
