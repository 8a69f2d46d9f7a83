import { lstatSync } from 'node:fs';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError, systemCode } from '../../base/errors.ts';
import type { Manifest } from '../../repository/manifest-reader.ts';
import { rangeBytes } from '../backup/ranges.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { progressTeller } from '../restore/restore-files.ts';
import type { RewindWork } from './decide-work.ts';
import { moveFile } from './durable-files.ts';
import { keptDirectories, keptPlace, livePlace, type Places, withinDataDirectory } from './places.ts';
import { rewindPool } from './rewind-pool.ts';
import { CONTROL_FILE } from './rewind-work.ts';
import type { SavedState } from './saved-state.ts';

const PAGE_FILE = /^pages-\d+$/;

/** From here on twice as many threads keep pages: they wait for the disk half of the time. Less is done before they are up. */
const MUCH_KEPT_BYTES = 256 * 1024 * 1024;

/** Makes the directory of the safety copy. Where nothing can be made beside the data directory, it goes into it. */
export async function makeSafetyDirectory(places: Places): Promise<Places> {
  const within = withinDataDirectory(places);
  for (const tried of places.safety === within.safety ? [places] : [places, within]) {
    try {
      await mkdir(tried.safety, { mode: 0o700 });
      return tried;
    } catch (error) {
      const isDenied = ['EACCES', 'EPERM', 'EROFS'].includes(systemCode(error));
      if (tried === within || !isDenied) throw fileError('create', tried.safety, error);
    }
  }
  return within;
}

export interface Kept {
  readonly pageFiles: readonly string[];
  readonly keptBytes: number;
  readonly movedFiles: number;
}

/**
 * Puts aside everything that a rewind and its replay are going to change: pages are copied; files that are replaced, or do
 * not belong there, and the whole `pg_wal` are renamed. Nothing is written over. The control file is there already, so that no
 * server starts meanwhile. It may have been cut off before: what was put aside stays aside, pages are copied again.
 *
 * Not flushed yet when it resolves.
 */
export async function keepLive(
  context: InstanceContext,
  from: {
    readonly places: Places;
    readonly manifest: Manifest;
    readonly state: SavedState;
    readonly work: RewindWork;
  },
  options: RunOptions,
): Promise<Kept> {
  const { places, manifest, state, work } = from;
  const counts = { moved: 0 };
  const keepAside = async (path: string): Promise<void> => {
    if (await moveAside(places, path)) counts.moved += 1;
  };
  await removePageFiles(places);
  const onProgress = progressTeller('keep', work.amount.keptBytes, options.onEvent);
  const workers = work.amount.keptBytes < MUCH_KEPT_BYTES ? context.workers : 2 * context.workers;
  const pool = rewindPool({ ...context, workers }, { manifest, places }, { ...options, onProgress });
  try {
    for (const item of work.items) {
      if (item.work.kind === 'patch' && item.work.changed.length > 0) {
        const task = { path: item.path, source: livePlace(places, item.path), ranges: item.work.changed };
        await pool.add({ kind: 'keep', ...task }, rangeBytes(item.work.changed));
      } else if (item.work.kind === 'replace' && state.live.files.has(item.path)) await keepAside(item.path);
    }
    for (const path of state.live.files.keys()) if (!work.files.has(path)) await keepAside(path);
    for (const path of state.log.files.keys()) await keepAside(path);
    const { keptBytes } = await pool.finish();
    return { pageFiles: await pageFilesOf(places), keptBytes, movedFiles: counts.moved };
  } catch (error) {
    await pool.terminate();
    throw error;
  }
}

/** @returns whether it was there to be moved */
export async function moveAside(places: Places, path: string): Promise<boolean> {
  const [from, to] = [livePlace(places, path), keptPlace(places, path)];
  const isKept = isThere(to);
  const isLive = isThere(from);
  // Both are there when it was copied from another file system, whole, and the run ended before the first was removed.
  if (isKept && isLive) await rm(from);
  if (isKept || !isLive) return false;
  await moveFile(from, to);
  return true;
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** Brings back what {@link keepLive} has renamed; of what it only copied nothing was changed yet. */
export async function bringBackMoved(places: Places, state: SavedState): Promise<void> {
  const paths = [...state.log.files.keys(), ...state.live.files.keys()].filter(path => path !== CONTROL_FILE);
  for (const path of [...paths, CONTROL_FILE]) {
    const kept = keptPlace(places, path);
    if (!(await exists(kept))) continue;
    const live = livePlace(places, path);
    await rm(live, { force: true });
    await moveFile(kept, live);
  }
}

/** Removes a safety copy that nothing depends on any more. */
export async function removeSafetyCopy(places: Places): Promise<void> {
  for (const directory of keptDirectories(places)) await rm(directory, { recursive: true, force: true });
}

export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(systemCode(error))) return false;
    throw fileError('read', path, error);
  }
}

async function removePageFiles(places: Places): Promise<void> {
  for (const name of await pageFilesOf(places)) await rm(join(places.safety, name));
}

async function pageFilesOf(places: Places): Promise<string[]> {
  return (await readdir(places.safety)).filter(name => PAGE_FILE.test(name)).sort();
}
