import { randomUUID } from 'node:crypto';
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { delay } from '../base/abort.ts';
import { systemCode } from '../base/errors.ts';
import { emptyHistory, type History } from './history.ts';
import { replaceWhole } from './whole-file.ts';

const LOCK_EVERY_MS = 5;
const LOCK_AT_MOST_MS = 2000;
/** Held for a few milliseconds: who has it this long is dead. */
const LOCK_STALE_MS = 10_000;

/** What was told so far; an empty history where nothing can be read. */
export async function readHistory(directory: string): Promise<History> {
  try {
    const read: unknown = JSON.parse(await readFile(fileIn(directory), 'utf8'));
    return isHistory(read) ? read : emptyHistory;
  } catch {
    // Without it something may be told twice, which is better than not at all.
    return emptyHistory;
  }
}

/**
 * Changes the history, one process at a time. Whatever prevents that (no room, no rights, a lock that is not given back)
 * costs the history and not the notification: the change is then made to what could be read, and is not kept.
 */
export async function changeHistory<T>(
  directory: string | null,
  change: (history: History) => { readonly history: History; readonly result: T },
): Promise<T> {
  if (directory === null) return change(emptyHistory).result;
  // Those of this process take turns: all of them after the one lock, the last of a burst would not have it in time.
  const turn = (turns.get(directory) ?? Promise.resolve()).then(() => changeLocked(directory, change));
  turns.set(
    directory,
    turn.catch(() => undefined),
  );
  return await turn;
}

const turns = new Map<string, Promise<unknown>>();

async function changeLocked<T>(
  directory: string,
  change: (history: History) => { readonly history: History; readonly result: T },
): Promise<T> {
  const release = await lock(directory).catch(() => null);
  try {
    const before = await readHistory(directory);
    const { history, result } = change(before);
    if (release !== null && history !== before)
      await replaceWhole(fileIn(directory), JSON.stringify(history)).catch(() => undefined);
    return result;
  } finally {
    await release?.();
  }
}

function fileIn(directory: string): string {
  return join(directory, 'history.json');
}

function isHistory(read: unknown): read is History {
  if (typeof read !== 'object' || read === null || !('version' in read) || read.version !== 1) return false;
  const fields: readonly (keyof History)[] = ['told', 'slotsMs', 'deliveries', 'summarizedMs'];
  return fields.every(name => name in read && typeof (read as History)[name] === 'object');
}

/** Null when it was not to be had in time. */
async function lock(directory: string): Promise<(() => Promise<void>) | null> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const path = join(directory, 'history.lock');
  const until = performance.now() + LOCK_AT_MOST_MS;
  while (performance.now() < until) {
    try {
      await (await open(path, 'wx', 0o600)).close();
      return () => rm(path, { force: true });
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
    }
    await removeStale(path);
    await delay(LOCK_EVERY_MS);
  }
  return null;
}

/** By renaming, so that of two processes that find it one removes it. */
async function removeStale(path: string): Promise<void> {
  const found = await stat(path).catch(() => null);
  if (found === null || Date.now() - found.mtimeMs < LOCK_STALE_MS) return;
  const dead = `${path}.${randomUUID()}`;
  await rename(path, dead).catch(() => undefined);
  await rm(dead, { force: true });
}
