import { randomBytes } from 'node:crypto';
import { AppError } from '../base/errors.ts';
import type { Storage } from '../storage/storage.ts';

/**
 * Proves with a throwaway object that the storage can be written, read and deleted, and that it refuses a second put of the
 * same key: everything in the repository relies on that.
 *
 * @throws STORAGE_DENIED, STORAGE_FULL, STORAGE_UNREACHABLE, UNSUPPORTED when a second put overwrites
 */
export async function probeStorage(storage: Storage): Promise<void> {
  const key = `probe/${randomBytes(8).toString('hex')}`;
  const first = randomBytes(64);
  try {
    await storage.put(key, first);
    const second = await storage.put(key, randomBytes(64));
    const read = await storage.get(key);
    if (second === 'exists' && read !== null && Buffer.from(read).equals(first)) return;
    throw new AppError(
      'UNSUPPORTED',
      `unable to use ${storage.description}: it overwrites objects instead of refusing a second put`,
      {
        hint: 'The storage must support conditional writes (If-None-Match: *); use another one.',
      },
    );
  } finally {
    await storage.delete(key);
  }
}
