import { AppError } from './errors.ts';

/** A length of time as people write it in a configuration: `90s`, `15m`, `4h`, `2d`. */
export const DURATION = /^(\d{1,9})(s|m|h|d)$/;

const secondsIn = { s: 1, m: 60, h: 3600, d: 86_400 } as const;

/** Seconds of `90s`, `15m`, `4h` or `2d`. @throws USAGE */
export function parseDuration(text: string): number {
  const match = DURATION.exec(text);
  if (match === null) {
    throw new AppError('USAGE', `unable to read the length of time '${text}'`, {
      hint: 'Write a number with s, m, h or d, like 90s or 15m.',
    });
  }
  return Number(match[1]) * secondsIn[match[2] as keyof typeof secondsIn];
}
