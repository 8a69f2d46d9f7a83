import { createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, open, readdir, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { delay } from '../../base/abort.ts';
import { AppError, systemCode } from '../../base/errors.ts';
import { syncDirectory } from '../../base/sync-directory.ts';
import { readBody } from '../body.ts';
import { TEMPORARY_PREFIX } from '../key.ts';
import type { BodyStream } from '../storage.ts';
import { lstatOrNull, type Owner } from './directories.ts';
import { somethingElse } from './local-error.ts';

const LEFT_OVER_MS = 24 * 3_600_000;
const LOCK_WAIT_MS = 5000;
const MOST_AT_ONCE_BYTES = 1 << 30;

export interface ObjectSource {
  readonly key: string;
  readonly body: Uint8Array | BodyStream;
  readonly signal: AbortSignal | undefined;
}

/** Carries what the source of a body threw past the handling of this storage's own errors; it is the cause. */
export class BodyFailure extends Error {
  constructor(error: unknown) {
    super('the body failed', { cause: error });
  }
}

async function* chunksOf({ key, body, signal }: ObjectSource): AsyncGenerator<Uint8Array> {
  try {
    yield* readBody(key, body, signal);
  } catch (error) {
    throw new BodyFailure(error);
  }
}

/**
 * Writes a body into a new file of the root directory and makes it durable; gives its path. They lie in the root, not
 * beside their object: one short listing finds whatever killed runs left, also of directories nobody comes to again.
 */
export async function writeTemporary(root: string, source: ObjectSource, owner: Owner): Promise<string> {
  const path = join(root, `${TEMPORARY_PREFIX}${randomBytes(12).toString('hex')}`);
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const handle = await open(path, flags, 0o600);
  try {
    if (owner !== null) await handle.chown(owner.uid, owner.gid);
    for await (const chunk of chunksOf(source)) await writeAll(handle, chunk);
    source.signal?.throwIfAborted();
    await handle.sync();
  } catch (error) {
    await handle.close().catch(() => undefined);
    await discard(path);
    throw error;
  }
  await handle.close();
  return path;
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await handle.write(
      bytes,
      done,
      Math.min(bytes.length - done, MOST_AT_ONCE_BYTES),
    );
    done += bytesWritten;
  }
}

/**
 * Gives a whole, durable file its final name if nothing has it yet, and makes the name durable. 'exists' is durable too:
 * the one who made it may still be about to sync, and our caller will rely on it.
 */
export async function publish(
  temporary: string,
  path: string,
  options: { readonly hardLinks: boolean; readonly signal: AbortSignal | undefined },
): Promise<'created' | 'exists'> {
  const created = options.hardLinks ? await linkIfFree(temporary, path) : 'unsupported';
  const outcome = created === 'unsupported' ? await renameIfFree(temporary, path, options.signal) : created;
  if (outcome === 'exists') await isObject(path);
  await syncDirectory(dirname(path));
  return outcome;
}

/** link(2) never replaces a name. Unsupported: FAT, exFAT, some network and FUSE file systems. */
async function linkIfFree(temporary: string, path: string): Promise<'created' | 'exists' | 'unsupported'> {
  try {
    await link(temporary, path);
    return 'created';
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EEXIST') return 'exists';
    if (['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(code)) return 'unsupported';
    throw error;
  }
}

/**
 * rename(2) does replace, and Node has no renameat2(RENAME_NOREPLACE): so the look and the rename stand under a lock
 * file, held for no longer than these two calls. Who finds it held waits; a lock whose holder was killed just there is
 * not broken by guessing, the error names it, and it goes with the other left-over files after a day.
 */
async function renameIfFree(
  temporary: string,
  path: string,
  signal: AbortSignal | undefined,
): Promise<'created' | 'exists'> {
  const name = createHash('sha256').update(path).digest('hex').slice(0, 24);
  const lock = join(dirname(temporary), `${TEMPORARY_PREFIX}lock-${name}`);
  await takeLock(lock, path, signal);
  try {
    if ((await lstatOrNull(path)) !== null) return 'exists';
    await rename(temporary, path);
    return 'created';
  } finally {
    await discard(lock);
  }
}

async function takeLock(lock: string, path: string, signal: AbortSignal | undefined): Promise<void> {
  const giveUpAt = performance.now() + LOCK_WAIT_MS;
  while (true) {
    try {
      const handle = await open(lock, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
      return await handle.close();
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
    }
    if (performance.now() > giveUpAt) {
      throw new AppError('LOCKED', `unable to write '${path}': '${basename(lock)}' is held by another run`, {
        hint: `If no other run of aishell writes here, one was killed: rm '${lock}', then run the same command again.`,
      });
    }
    await delay(10 + Math.random() * 20, signal);
  }
}

/** Whether there is an object. @throws STORAGE_UNREACHABLE when there is something else */
export async function isObject(path: string): Promise<boolean> {
  const found = await lstatOrNull(path);
  if (found !== null && !found.isFile()) throw somethingElse('write', path);
  return found !== null;
}

/** Removes a file of our own; what cannot be removed now goes with the left-over files later. */
export async function discard(path: string): Promise<void> {
  await unlink(path).catch(() => undefined);
}

/**
 * Removes what killed runs left in the root more than a day ago: no put takes as long. To fail here would fail a put
 * that has nothing to do with it, so what goes wrong is left for the next one.
 */
export async function removeLeftOvers(root: string): Promise<void> {
  const names = await readdir(root).catch(() => []);
  for (const name of names.filter(each => each.startsWith(TEMPORARY_PREFIX))) {
    const path = join(root, name);
    const found = await lstatOrNull(path).catch(() => null);
    if (found?.isFile() === true && Date.now() - found.mtimeMs > LEFT_OVER_MS) await discard(path);
  }
}
