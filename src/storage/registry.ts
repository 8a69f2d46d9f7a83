import { isAbsolute, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError } from '../base/errors.ts';
import { parseFaultPlan } from './faulty/fault-plan.ts';
import { faultyStorage } from './faulty/faulty-storage.ts';
import { localStorage } from './local/local-storage.ts';
import { memoryStorage } from './memory/memory-storage.ts';
import type { Storage, StorageLocation } from './storage.ts';

/**
 * Opens the storage at a location; nothing is read or made yet. `AISHELL_STORAGE_FAULTS` puts faults into it (a plan in
 * JSON, see `faulty/fault-plan.ts`): so the kill tests reach into programs and threads they start.
 */
export function openStorage(location: StorageLocation, env: NodeJS.ProcessEnv = process.env): Storage {
  const storage = location.kind === 'local' ? localStorage(location.path) : memoryStorage(location.name);
  const faults = env.AISHELL_STORAGE_FAULTS;
  return faults === undefined || faults === '' ? storage : faultyStorage(storage, parseFaultPlan(faults));
}

/**
 * Reads a location as people write it: an absolute path or a `file://` URL.
 *
 * @throws UNSUPPORTED for another scheme
 * @throws USAGE for what is no location
 */
export function parseStorageLocation(text: string): StorageLocation {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]+):/.exec(text)?.[1]?.toLowerCase();
  if (scheme !== undefined && scheme !== 'file') {
    throw new AppError(
      'UNSUPPORTED',
      `unable to use the storage '${withoutUserInfo(text)}': '${scheme}' is not supported`,
      {
        hint: 'Supported are directories: /an/absolute/path or file:///an/absolute/path.',
      },
    );
  }
  const path = scheme === 'file' ? pathOfUrl(text) : text;
  if (!isAbsolute(path)) throw noLocation(text, 'it is not an absolute path');
  if (path.includes('\0')) throw noLocation(text, 'it holds a zero byte');
  if (resolve(path) === '/') throw noLocation(text, 'a repository needs a directory of its own');
  return { kind: 'local', path: resolve(path) };
}

/** A location for people, as the storage's own description. */
export function describeLocation(location: StorageLocation): string {
  return location.kind === 'local' ? `local disk (${location.path})` : `memory (${location.name})`;
}

function pathOfUrl(text: string): string {
  try {
    const url = new URL(text);
    if (url.search !== '' || url.hash !== '')
      throw noLocation(text, "a '?' or '#' in a URL is written %3F or %23");
    return fileURLToPath(url);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw noLocation(text, 'it is no file URL of this machine');
  }
}

function noLocation(text: string, why: string): AppError {
  return new AppError('USAGE', `unable to use the storage location '${text}': ${why}`, {
    hint: 'Write an absolute path, like /var/backups/aishell.',
  });
}

/** A URL may carry a password; messages do not. */
function withoutUserInfo(text: string): string {
  return text.replace(/\/\/[^/@]*@/, '//');
}
