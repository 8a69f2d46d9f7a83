import { closeSync, constants, ftruncateSync, lstatSync, openSync } from 'node:fs';
import { rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import type { ChangeMap } from '../../engines/postgres/change-map.ts';
import type { FileLine } from '../../repository/manifest.ts';
import type { Manifest } from '../../repository/manifest-reader.ts';
import { commonRanges, gapsBetween, type Ranges, uniteRanges } from '../backup/ranges.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { makeDirectory, type Owner } from '../restore/new-files.ts';
import { writeFully } from '../restore/write-fully.ts';
import { moveFile } from './durable-files.ts';
import type { RewindJournal } from './journal.ts';
import { readKept } from './kept-pages.ts';
import { changedRanges, type PageWork } from './page-rules.ts';
import { inPackOrder, openedBytes, piecesOf } from './pieces.ts';
import { keptPlace, livePlace, type Places } from './places.ts';
import { rewindPool } from './rewind-pool.ts';
import { findSpGist, rewindWork } from './rewind-work.ts';
import { exists } from './safety-copy.ts';
import type { SavedState } from './saved-state.ts';
import { listLogDirectory, listServerFiles } from './server-files.ts';

const CONTROL_FILE = 'global/pg_control';

/** What only a rewound database that was used needs: the pages that were changed since are the backup's. */
export interface UsedSince {
  readonly context: InstanceContext;
  readonly manifest: Manifest;
  readonly map: ChangeMap;
}

export interface BroughtBack {
  readonly pagesBytes: number;
  readonly fromBackupBytes: number;
  readonly movedFiles: number;
}

/**
 * Makes the files of the data directory what they were before a rewind, down to the byte: what was put aside comes back, kept
 * pages are written over, files get their sizes. `used` null: no session has ever read the rewound database, so that nothing
 * but what is in the safety copy was changed.
 *
 * It can be cut off and begun again at any place. The control file is not brought back: it comes last, by the caller.
 */
export async function bringBack(
  from: {
    readonly journal: RewindJournal;
    readonly state: SavedState;
    readonly used: UsedSince | null;
    readonly tablespaceVersionDirectory: string;
    readonly owner: Owner;
  },
  options: RunOptions,
): Promise<BroughtBack> {
  const { journal, state, owner } = from;
  const { places } = journal;
  await rm(livePlace(places, CONTROL_FILE), { force: true });
  for (const [path, { mode }] of [...state.live.directories, ...state.log.directories])
    makeDirectory(livePlace(places, path), { owner, mode });
  const movedFiles = await moveBack(places, state);
  await removeOthers(places, state, from.tablespaceVersionDirectory);
  const fromBackupBytes = from.used === null ? 0 : await writeFromBackup(from.used, from, options);
  const pagesBytes = writeKeptPages(journal, options.signal);
  restoreSizes(places, state);
  return { pagesBytes, fromBackupBytes, movedFiles };
}

async function moveBack(places: Places, state: SavedState): Promise<number> {
  let moved = 0;
  for (const path of [...state.live.files.keys(), ...state.log.files.keys()]) {
    if (path === CONTROL_FILE) continue;
    const kept = keptPlace(places, path);
    if (!(await exists(kept))) continue;
    await rm(livePlace(places, path), { force: true });
    await moveFile(kept, livePlace(places, path));
    moved += 1;
  }
  return moved;
}

/** What the rewind, the replay, or the rewound server has made. */
async function removeOthers(
  places: Places,
  state: SavedState,
  tablespaceVersionDirectory: string,
): Promise<void> {
  for (const [found, own] of [
    [listServerFiles(places, tablespaceVersionDirectory), state.live],
    [listLogDirectory(places), state.log],
  ] as const) {
    for (const path of found.files.keys()) if (!own.files.has(path)) await rm(livePlace(places, path));
    for (const path of [...found.directories.keys()].reverse()) {
      if (own.directories.has(path)) continue;
      await rmdir(livePlace(places, path)).catch((error: unknown) => {
        // Something that is not the server's is in it; that stays.
        if (!['ENOTEMPTY', 'EEXIST'].includes(systemCode(error))) throw fileError('remove', path, error);
      });
    }
  }
}

/**
 * Pages that the rewound database has changed and the safety copy does not have: no record before the rewind named them, so
 * they were as in the backup.
 */
async function writeFromBackup(
  used: UsedSince,
  from: { readonly journal: RewindJournal; readonly state: SavedState; readonly owner: Owner },
  options: RunOptions,
): Promise<number> {
  const { context, manifest, map } = used;
  const { places } = from.journal;
  const { state, owner } = from;
  const changed = changedRanges(map, manifest.backup);
  const spGist = findSpGist(places, state.live, map);
  const pool = rewindPool(context, { manifest, places }, { ...options, onProgress: () => undefined });
  try {
    const decided = { manifest, state, leaveSettled: false };
    const work = rewindWork(context, decided, { signal: options.signal, seen: () => undefined });
    for await (const file of work) {
      const live = state.live.files.get(file.line.p);
      // What was put aside is back as a whole.
      if (file.work.kind === 'replace' || live === undefined) continue;
      const first: Ranges = spGist.has(file.line.p) ? [0, manifest.backup.blockSize] : [];
      const wanted = missingRanges(file, uniteRanges(first, changed(file.line.p, live.sizeBytes)), live);
      const target = livePlace(places, file.line.p);
      const isGone = lstatSync(target, { throwIfNoEntry: false }) === undefined;
      if (wanted.length === 0 && !isGone) continue;
      const all = isGone ? missingRanges(file, [0, live.sizeBytes], live) : wanted;
      const create = isGone ? { sizeBytes: live.sizeBytes, mode: live.mode, owner } : null;
      const pieces = inPackOrder(piecesOf(file.line, all));
      const kept = { path: target, firstBlock: null };
      const task = { path: file.line.p, target, sizeBytes: live.sizeBytes, create, pieces, copies: [], kept };
      await pool.add({ kind: 'write', ...task }, openedBytes(pieces));
    }
    const { writtenBytes } = await pool.finish();
    return writtenBytes;
  } catch (error) {
    await pool.terminate();
    throw error;
  }
}

/** What of `ranges` the safety copy does not have. */
function missingRanges(
  file: { readonly line: FileLine; readonly work: PageWork },
  ranges: Ranges,
  live: { readonly sizeBytes: number },
): Ranges {
  const kept = file.work.kind === 'patch' ? file.work.changed : [];
  const end = Math.min(live.sizeBytes, file.line.s);
  return commonRanges(ranges, gapsBetween(kept, end));
}

function writeKeptPages(journal: RewindJournal, signal: AbortSignal): number {
  const { places } = journal;
  let bytes = 0;
  for (const name of journal.pageFiles) {
    let open = null as { readonly path: string; readonly file: number } | null;
    try {
      for (const section of readKept(join(places.safety, name))) {
        signal.throwIfAborted();
        if (open?.path !== section.path) {
          if (open !== null) closeSync(open.file);
          open = { path: section.path, file: openLive(livePlace(places, section.path)) };
        }
        writeFully(open.file, section.bytes, { position: section.offset, path: section.path });
        bytes += section.bytes.length;
      }
    } finally {
      if (open !== null) closeSync(open.file);
    }
  }
  return bytes;
}

function restoreSizes(places: Places, state: SavedState): void {
  for (const [path, { sizeBytes }] of state.live.files) {
    // Settings and the like may have been changed since; they are no part of a rewind.
    if (path === CONTROL_FILE || !path.includes('/')) continue;
    const place = livePlace(places, path);
    const stats = lstatSync(place, { throwIfNoEntry: false });
    if (stats === undefined) {
      const what = `unable to bring back '${path}': it is neither there nor in the safety copy`;
      throw new AppError('CORRUPT', what);
    }
    if (stats.size === sizeBytes) continue;
    const file = openLive(place);
    try {
      ftruncateSync(file, sizeBytes);
    } catch (error) {
      throw fileError('cut', place, error);
    } finally {
      closeSync(file);
    }
  }
}

function openLive(path: string): number {
  try {
    return openSync(path, constants.O_RDWR | constants.O_NOFOLLOW);
  } catch (error) {
    throw fileError('open', path, error);
  }
}
