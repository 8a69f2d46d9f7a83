import { assert } from '../base/errors.ts';
import type { ByteRange } from './storage.ts';

/** The first byte of a range and the one behind its last, cut to what an object of `sizeBytes` has. */
export function cutRange(
  range: ByteRange | undefined,
  sizeBytes: number,
): { readonly start: number; readonly end: number } {
  const { offset, length } = range ?? { offset: 0, length: undefined };
  assert(Number.isSafeInteger(offset), `a range cannot start at ${offset}`);
  assert(
    length === undefined || (Number.isSafeInteger(length) && length >= 0),
    `a range cannot have ${length} bytes`,
  );
  const start = offset < 0 ? Math.max(0, sizeBytes + offset) : Math.min(offset, sizeBytes);
  const end = length === undefined ? sizeBytes : Math.min(sizeBytes, start + length);
  return { start, end };
}
