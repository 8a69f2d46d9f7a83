import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { systemCode } from './errors.ts';

/**
 * Makes the names in a directory durable. Some file systems have no sync for directories and say so; there is nothing
 * more to be done on them.
 * @source PostgreSQL, src/backend/storage/file/fd.c, fsync_fname_ext, ignores the same answers
 */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } catch (error) {
    if (!['EINVAL', 'EBADF', 'ENOTSUP', 'EOPNOTSUPP'].includes(systemCode(error))) throw error;
  } finally {
    await handle.close();
  }
}
