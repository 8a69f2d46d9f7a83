import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { AppError } from '../../base/errors.ts';
import { cutRange } from '../byte-range.ts';
import type { ByteRange } from '../storage.ts';
import { isMissing } from './directories.ts';
import { somethingElse } from './local-error.ts';

const MOST_AT_ONCE_BYTES = 1 << 30;

/** Reads a file or a part of it with one open, one read and one close; null when there is none. */
export async function readObject(path: string, range: ByteRange | undefined): Promise<Uint8Array | null> {
  // Not following a link, and not waiting for the writer of a named pipe.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await open(path, flags).catch((error: unknown) => {
    if (isMissing(error)) return null;
    throw error;
  });
  if (handle === null) return null;
  try {
    const stat = await handle.stat();
    if (stat.isDirectory()) return null;
    if (!stat.isFile()) throw somethingElse('read', path);
    const { start, end } = cutRange(range, stat.size);
    return await readExactly(handle, path, { start, end });
  } finally {
    await handle.close();
  }
}

async function readExactly(
  handle: FileHandle,
  path: string,
  { start, end }: { readonly start: number; readonly end: number },
): Promise<Uint8Array> {
  // Not zeroed first: every byte of it is read from the file, or an error is thrown.
  const bytes = new Uint8Array(Buffer.allocUnsafeSlow(end - start).buffer);
  let done = 0;
  while (done < bytes.length) {
    const length = Math.min(bytes.length - done, MOST_AT_ONCE_BYTES);
    const { bytesRead } = await handle.read(bytes, done, length, start + done);
    if (bytesRead === 0) {
      throw new AppError('CORRUPT', `unable to read '${path}': it became shorter while it was read`, {
        hint: 'Objects never change: another program works in this directory, or the disk is failing.',
      });
    }
    done += bytesRead;
  }
  return bytes;
}
