import type { Dirent, Stats } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isKeySegment } from '../key.ts';
import type { ObjectFacts } from '../storage.ts';
import { isMissing, lstatOrNull } from './directories.ts';
import { localError } from './local-error.ts';

export interface ListRequest {
  readonly root: string;
  readonly prefix: string;
  /** Only keys beyond it; '' for all. */
  readonly after: string;
  readonly signal: AbortSignal | undefined;
}

/** So many files are asked for their facts at once: the latency of a network file system counts once per batch. */
const STAT_BATCH = 32;

/** Objects in the order of their keys. Holds the names of one directory per level, never more. */
export async function* listObjects(request: ListRequest): AsyncGenerator<ObjectFacts> {
  const { prefix } = request;
  yield* listDirectory(request, prefix.slice(0, prefix.lastIndexOf('/') + 1));
}

/** `directory` is '' or ends with a slash, as do the names of directories here: that sorts `a-b` before `a/b`. */
async function* listDirectory(request: ListRequest, directory: string): AsyncGenerator<ObjectFacts> {
  request.signal?.throwIfAborted();
  const keys = (await readNames(join(request.root, directory)))
    .map(name => directory + name)
    .filter(key => isWanted(key, request))
    .sort();
  let files: string[] = [];
  for (const key of keys) {
    if (!key.endsWith('/')) files.push(key);
    if (key.endsWith('/') || files.length >= STAT_BATCH) {
      yield* factsOf(request, files);
      files = [];
    }
    if (key.endsWith('/')) yield* listDirectory(request, key);
  }
  yield* factsOf(request, files);
}

/** Keys are ASCII, so the order of JavaScript's strings is that of their bytes. */
function isWanted(key: string, { prefix, after }: ListRequest): boolean {
  if (!key.endsWith('/')) return key.startsWith(prefix) && key > after;
  const mayHold = key.startsWith(prefix) || prefix.startsWith(key);
  return mayHold && (key > after || after.startsWith(key));
}

/** Names that can be part of a key; symbolic links, devices and strange names are no part of a repository. */
async function readNames(path: string): Promise<string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch((error: unknown): Dirent[] => {
    if (isMissing(error)) return [];
    throw localError('list', path, error);
  });
  return entries
    .filter(entry => isKeySegment(entry.name) && (entry.isFile() || entry.isDirectory()))
    .map(entry => (entry.isDirectory() ? `${entry.name}/` : entry.name));
}

async function* factsOf(request: ListRequest, keys: readonly string[]): AsyncGenerator<ObjectFacts> {
  request.signal?.throwIfAborted();
  const found = await Promise.all(
    keys.map(async key => ({ key, stat: await lstatOf(join(request.root, key)) })),
  );
  for (const { key, stat } of found) {
    request.signal?.throwIfAborted();
    // Removed since the directory was read.
    if (stat === null) continue;
    yield { key, sizeBytes: stat.size, modifiedMs: stat.mtimeMs };
  }
}

async function lstatOf(path: string): Promise<Stats | null> {
  try {
    return await lstatOrNull(path);
  } catch (error) {
    throw localError('read', path, error);
  }
}
