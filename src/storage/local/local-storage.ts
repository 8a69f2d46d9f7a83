import { statfs, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { AppError, BugError, systemCode } from '../../base/errors.ts';
import { syncDirectory } from '../../base/sync-directory.ts';
import { checkKey, checkPrefix } from '../key.ts';
import type { CallOptions, Storage } from '../storage.ts';
import { type Directories, directoriesOf, isMissing, lstatOrNull, type Owner } from './directories.ts';
import { listObjects } from './list-objects.ts';
import { localError, somethingElse } from './local-error.ts';
import { readObject } from './read-object.ts';
import {
  BodyFailure,
  discard,
  isObject,
  type ObjectSource,
  publish,
  removeLeftOvers,
  writeTemporary,
} from './write-object.ts';

export interface LocalStorageOptions {
  /** False: never tried, as on a file system without them. */
  readonly hardLinks?: boolean;
}

/**
 * A directory of this machine, or one mounted here. It is made by the first `put`, with everything in it for its owner
 * alone (0700, 0600). A killed `put` leaves a `.tmp-…` file in the root, which a later one removes after a day.
 *
 * @throws STORAGE_FULL STORAGE_DENIED STORAGE_UNREACHABLE
 */
export function localStorage(location: string, { hardLinks = true }: LocalStorageOptions = {}): Storage {
  const root = resolve(location);
  const directories = directoriesOf(root);
  const put = putInto({ root, directories, hardLinks });
  return {
    description: `local disk (${root})`,
    put: (key, body, options) =>
      run({ verb: 'write', root, key, options }, path => put({ key, path, body, signal: options?.signal })),
    get: (key, range, options) => run({ verb: 'read', root, key, options }, path => readObject(path, range)),
    head: (key, options) =>
      run({ verb: 'read', root, key, options }, async path => {
        const found = await lstatOrNull(path);
        if (found === null || found.isDirectory()) return null;
        if (!found.isFile()) throw somethingElse('read', path);
        return { key, sizeBytes: found.size, modifiedMs: found.mtimeMs };
      }),
    list: (prefix, { after = '', signal } = {}) => {
      checkPrefix(prefix);
      return listObjects({ root, prefix, after, signal });
    },
    delete: (key, options) => run({ verb: 'remove', root, key, options }, remove),
    freeBytes: () => freeBytes(root),
  };
}

interface Call {
  readonly verb: string;
  readonly root: string;
  readonly key: string;
  readonly options: CallOptions | undefined;
}

/** Makes errors of the operating system those of a storage; what the body's source threw, and aborts, stay untouched. */
async function run<T>({ verb, root, key, options }: Call, work: (path: string) => Promise<T>): Promise<T> {
  checkKey(key);
  options?.signal?.throwIfAborted();
  const path = join(root, key);
  try {
    return await work(path);
  } catch (error) {
    if (error instanceof BodyFailure) throw error.cause;
    if (error instanceof AppError || error instanceof BugError) throw error;
    if (options?.signal?.aborted === true && error === options.signal.reason) throw error;
    throw localError(verb, path, error);
  }
}

interface PutRequest extends ObjectSource {
  readonly path: string;
}

function putInto(place: {
  readonly root: string;
  readonly directories: Directories;
  readonly hardLinks: boolean;
}): (request: PutRequest) => Promise<'created' | 'exists'> {
  const { root, directories, hardLinks } = place;
  /** What was known of a directory is out of date when somebody removed it meanwhile: then it is made once more. */
  const inside = async <T>(relative: string, work: (owner: Owner) => Promise<T>): Promise<T> => {
    const owner = await directories.ensure(relative);
    try {
      return await work(owner);
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
      directories.forget();
      return await work(await directories.ensure(relative));
    }
  };
  let swept: Promise<void> | null = null;
  return async ({ path, ...source }) => {
    const { key, signal } = source;
    // Spares writing a whole body for nothing; the link below decides.
    if (await isObject(path)) {
      await syncDirectory(dirname(path));
      return 'exists';
    }
    const directory = key.includes('/') ? dirname(key) : '';
    await directories.ensure(directory);
    const temporary = await inside('', owner => writeTemporary(root, source, owner));
    try {
      return await inside(directory, () => publish(temporary, path, { hardLinks, signal }));
    } finally {
      await discard(temporary);
      swept ??= removeLeftOvers(root);
      await swept;
    }
  };
}

/** The name is gone durably when this ends: so a manifest that was removed before its packs never comes back alone. */
async function remove(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (isMissing(error) || (await lstatOrNull(path))?.isDirectory() === true) return;
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** Free for ordinary users, on the file system the root is on or will be on. */
async function freeBytes(root: string): Promise<number> {
  for (let path = root; ; path = dirname(path)) {
    try {
      const { bavail, bsize } = await statfs(path);
      return bavail * bsize;
    } catch (error) {
      if (!isMissing(error) || path === dirname(path)) throw localError('read', path, error);
    }
  }
}
