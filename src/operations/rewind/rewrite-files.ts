import { closeSync, rmSync } from 'node:fs';
import { rm, rmdir } from 'node:fs/promises';
import { assert, fileError, systemCode } from '../../base/errors.ts';
import type { FileLine } from '../../repository/manifest.ts';
import type { Manifest } from '../../repository/manifest-reader.ts';
import { uniteRanges } from '../backup/ranges.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { createFile, makeDirectory, type NewFile, type Owner } from '../restore/new-files.ts';
import { progressTeller } from '../restore/restore-files.ts';
import type { PageWork } from './page-rules.ts';
import { livePlace, type Places } from './places.ts';
import { rewindPool } from './rewind-pool.ts';
import type { Piece, RewindTask } from './rewind-protocol.ts';
import { rewindWork, wantedRanges } from './rewind-work.ts';
import type { SavedState } from './saved-state.ts';
import { listLogDirectory, listServerFiles } from './server-files.ts';

export interface Rewritten {
  readonly files: number;
  readonly writtenBytes: number;
  readonly fetchedBytes: number;
  /** Files whose pages are to be checked after the replay: ranges of bytes, or null for all of it. */
  readonly touched: ReadonlyMap<string, readonly number[] | null>;
  /** Main forks that nothing changed. */
  readonly untouched: ReadonlySet<string>;
}

type WriteTask = Extract<RewindTask, { kind: 'write' }>;

const CONTROL_FILE = 'global/pg_control';
/** What one task writes at most; a large file goes to several threads. */
const TASK_BYTES = 64 * 1024 * 1024;

/**
 * Makes the files of the data directory as they must be for a replay from the start of the backup: those that do not belong
 * there are gone, and all pages that the replay reads are the backup's. What is left to the replay is whatever it is.
 *
 * It decides by the saved state alone and writes whole states, never changes, so it can be begun again after any
 * interruption, also of the replay after it. Nothing is flushed. The control file comes last.
 */
export async function rewriteFiles(
  context: InstanceContext,
  from: {
    readonly places: Places;
    readonly manifest: Manifest;
    readonly state: SavedState;
    readonly owner: Owner;
    /** Called before the control file is written, without which no server starts. */
    readonly beforeControl: () => Promise<void>;
  },
  options: RunOptions,
): Promise<Rewritten> {
  const { places, manifest, owner, state } = from;
  // Of an attempt before this one; the live one was put aside.
  await rm(livePlace(places, CONTROL_FILE), { force: true });
  await emptyLog(places);
  const found = listServerFiles(places, manifest.backup.tablespaceVersionDirectory);
  const onProgress = progressTeller('rewrite', 0, options.onEvent);
  const pool = rewindPool(context, { manifest, places }, { ...options, onProgress });
  const [known, directories] = [new Set<string>(), new Set<string>()];
  const seen = (path: string, mode: number, isFile: boolean): void => {
    if (isFile) known.add(path);
    else {
      directories.add(path);
      makeDirectory(livePlace(places, path), { owner, mode });
    }
  };
  const touched = new Map<string, readonly number[] | null>();
  const untouched = new Set<string>();
  const write = async (line: FileLine, work: PageWork): Promise<void> => {
    const to = { target: livePlace(places, line.p), owner };
    for (const task of tasksOf(line, work, to)) await pool.add(task, piecesBytes(task.pieces));
  };
  let control: FileLine | null = null;
  try {
    for await (const { line, work } of rewindWork(context, from, { signal: options.signal, seen })) {
      if (work.kind === 'keep') untouched.add(line.p);
      else if (line.p === CONTROL_FILE) control = line;
      else {
        touched.set(line.p, work.kind === 'patch' ? touchedRanges(line, work, state) : null);
        await write(line, work);
      }
    }
    // Only what an earlier attempt has left is removed here: the files of the live state were put aside.
    for (const path of found.files.keys()) if (!known.has(path)) await rm(livePlace(places, path));
    await removeDirectories(places, found.directories.keys(), directories);
    await pool.drain();
    assert(control !== null, 'a backup has a control file');
    await from.beforeControl();
    await write(control, { kind: 'replace', left: [] });
    const totals = await pool.finish();
    return { files: touched.size, ...totals, touched, untouched };
  } catch (error) {
    await pool.terminate();
    throw error;
  }
}

/** What is written of a patched file, by the rewind or by the replay, which may make it longer. */
function touchedRanges(
  line: FileLine,
  work: Extract<PageWork, { kind: 'patch' }>,
  state: SavedState,
): readonly number[] {
  const end = Math.min(line.s, state.live.files.get(line.p)?.sizeBytes ?? 0);
  return uniteRanges(uniteRanges(work.changed, work.fromBase), [end, Number.MAX_SAFE_INTEGER - end]);
}

/** The pieces of the backup that a file needs, cut so that several threads can work on a large one. */
function tasksOf(
  line: FileLine,
  work: PageWork,
  to: { readonly target: string; readonly owner: Owner },
): WriteTask[] {
  const common = { kind: 'write', path: line.p, target: to.target, sizeBytes: line.s } as const;
  const create = work.kind === 'replace' ? { sizeBytes: line.s, mode: line.m, owner: to.owner } : null;
  const pieces = piecesOf(line, wantedRanges(line, work));
  if (piecesBytes(pieces) <= TASK_BYTES) return [{ ...common, create, pieces }];
  if (create !== null) makeFile(to.target, create);
  const tasks: WriteTask[] = [];
  let group: Piece[] = [];
  let bytes = 0;
  for (const piece of pieces) {
    group.push(piece);
    bytes += piece.length;
    if (bytes < TASK_BYTES) continue;
    tasks.push({ ...common, create: null, pieces: group });
    group = [];
    bytes = 0;
  }
  if (group.length > 0) tasks.push({ ...common, create: null, pieces: group });
  return tasks;
}

/** Where the wanted ranges of a file are found in the backup. */
export function piecesOf(line: FileLine, wanted: readonly number[]): Piece[] {
  const pieces: Piece[] = [];
  let chunkAt = 0;
  let index = 0;
  for (const chunk of line.c) {
    const chunkEnd = chunkAt + chunk[0];
    while (index < wanted.length && wanted[index]! < chunkEnd) {
      const rangeEnd = wanted[index]! + wanted[index + 1]!;
      const from = Math.max(wanted[index]!, chunkAt);
      const to = Math.min(rangeEnd, chunkEnd);
      if (to > from) pieces.push({ chunk, start: chunk[6] + from - chunkAt, at: from, length: to - from });
      // The rest of this range is in the next chunk.
      if (rangeEnd > chunkEnd) break;
      index += 2;
    }
    chunkAt = chunkEnd;
  }
  return pieces;
}

async function removeDirectories(
  places: Places,
  found: Iterable<string>,
  wanted: ReadonlySet<string>,
): Promise<void> {
  for (const path of [...found].reverse()) {
    if (wanted.has(path) || !path.includes('/')) continue;
    await rmdir(livePlace(places, path)).catch((error: unknown) => {
      // Something that is not the server's is in it; that stays.
      if (!['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(systemCode(error)))
        throw fileError('remove', path, error);
    });
  }
}

/** What an earlier attempt was fed. */
async function emptyLog(places: Places): Promise<void> {
  const { files, directories } = listLogDirectory(places);
  for (const path of files.keys()) await rm(livePlace(places, path));
  for (const path of [...directories.keys()].reverse())
    if (path.includes('/')) await rm(livePlace(places, path), { recursive: true });
}

function piecesBytes(pieces: readonly Piece[]): number {
  return pieces.reduce((sum, piece) => sum + piece.length, 0);
}

function makeFile(path: string, facts: NewFile): void {
  // One that is there was made by an attempt before this one.
  rmSync(path, { force: true });
  closeSync(createFile(path, facts));
}
