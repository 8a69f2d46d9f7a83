import { assert } from '../base/errors.ts';

/** Names that start like this are an adapter's own, half-written or short-lived; they are never keys and never listed. */
export const TEMPORARY_PREFIX = '.tmp-';

const nameForm = /^[A-Za-z0-9._-]{1,255}$/;
const MAX_KEY_BYTES = 1024;

/** Whether a name can be one segment of a key. */
export function isKeySegment(name: string): boolean {
  return nameForm.test(name) && name !== '.' && name !== '..' && !name.startsWith(TEMPORARY_PREFIX);
}

/**
 * Fails as a bug when a key is not of segments of `[A-Za-z0-9._-]` joined by `/`, or could leave the root. A segment has
 * at most 255 bytes and a key 1,024: what file systems and object stores take.
 */
export function checkKey(key: string): void {
  assert(key.length <= MAX_KEY_BYTES && key.split('/').every(isKeySegment), `'${key}' is no key`);
}

/** As {@link checkKey}, for the start of a key: it may be empty, and may end inside a name or with `/`. */
export function checkPrefix(prefix: string): void {
  const segments = prefix.split('/');
  const last = segments.pop() ?? '';
  const isStart = last === '' || (nameForm.test(last) && last !== '..');
  assert(
    prefix.length <= MAX_KEY_BYTES && isStart && segments.every(isKeySegment),
    `'${prefix}' is no start of a key`,
  );
}
