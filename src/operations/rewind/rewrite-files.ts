import { closeSync, rmSync } from 'node:fs';
import { rm, rmdir } from 'node:fs/promises';
import { fileError, systemCode } from '../../base/errors.ts';
import { relationOf } from '../../engines/postgres/data-files-names.ts';
import type { Manifest } from '../../repository/manifest-reader.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { createFile, makeDirectory, type NewFile, type Owner } from '../restore/new-files.ts';
import { progressTeller } from '../restore/restore-files.ts';
import type { RewindWork, WorkItem } from './decide-work.ts';
import type { FileJob } from './file-dealer.ts';
import { inPackOrder, openedBytes, piecesBytes, splitByFrames } from './pieces.ts';
import { keptPlace, livePlace, type Places } from './places.ts';
import { rewindPool } from './rewind-pool.ts';
import type { Piece, RewindTask } from './rewind-protocol.ts';
import { CONTROL_FILE } from './rewind-work.ts';
import { listLogDirectory, listServerFiles } from './server-files.ts';

export interface Rewritten {
  readonly files: number;
  readonly writtenBytes: number;
  /** From files that were put aside. */
  readonly copiedBytes: number;
  readonly fetchedBytes: number;
}

type WriteTask = Extract<RewindTask, { kind: 'write' }>;

/**
 * About what one task unpacks, or copies: a file for which it is more goes to several threads. It is unpacking that takes the
 * time, not writing: single pages all over a large file are a MiB each to be unpacked.
 */
const TASK_BYTES = 16 * 1024 * 1024;

/**
 * Makes the files of the data directory as they must be for a replay from the start of the backup: those that do not belong
 * there are gone, and all pages that the replay reads are the backup's, or settled. What is left to the replay is whatever it is.
 *
 * What it does was decided by the saved state alone, and whole states are written, never changes, so it can be begun again after any
 * interruption, also of the replay after it. Nothing is flushed. The control file comes last.
 */
export async function rewriteFiles(
  context: InstanceContext,
  from: {
    readonly places: Places;
    readonly manifest: Manifest;
    readonly work: RewindWork;
    readonly owner: Owner;
    /** Called before the control file is written, without which no server starts. */
    readonly beforeControl: () => Promise<void>;
  },
  options: RunOptions,
): Promise<Rewritten> {
  const { places, manifest, owner, work } = from;
  // Of an attempt before this one; the live one was put aside.
  await rm(livePlace(places, CONTROL_FILE), { force: true });
  await emptyLog(places);
  const found = listServerFiles(places, manifest.backup.tablespaceVersionDirectory);
  for (const [path, mode] of work.directories) makeDirectory(livePlace(places, path), { owner, mode });
  const onProgress = progressTeller(
    'rewrite',
    work.amount.writtenBytes + work.amount.copiedBytes,
    options.onEvent,
  );
  const pool = rewindPool(context, { manifest, places }, { ...options, onProgress });
  const jobOf = (item: WorkItem): FileJob<RewindTask> => ({
    bytes: openedBytes(item.pieces) + piecesBytes(item.copies),
    tasks: () =>
      tasksOf(item, {
        target: livePlace(places, item.path),
        owner,
        kept: keptFile(item.path, { places, manifest }),
      }),
  });
  try {
    await pool.deal(work.items.map(jobOf));
    // Only what an earlier attempt has left is removed here: the files of the live state were put aside.
    for (const path of found.files.keys()) if (!work.files.has(path)) await rm(livePlace(places, path));
    await removeDirectories(places, found.directories.keys(), work.directories);
    await pool.drain();
    await from.beforeControl();
    await pool.deal([jobOf(work.control)]);
    const { writtenBytes, copiedBytes, fetchedBytes } = await pool.finish();
    return { files: work.items.length, writtenBytes, copiedBytes, fetchedBytes };
  } catch (error) {
    await pool.terminate();
    throw error;
  }
}

/** The pieces that a file needs, cut so that several threads can work on one that takes long. */
function tasksOf(
  item: WorkItem,
  to: { readonly target: string; readonly owner: Owner; readonly kept: WriteTask['kept'] },
): WriteTask[] {
  const { sizeBytes, mode, copies } = item;
  const pieces = inPackOrder(item.pieces);
  const common = { kind: 'write', path: item.path, target: to.target, sizeBytes, kept: to.kept } as const;
  const create = item.work.kind === 'replace' ? { sizeBytes, mode, owner: to.owner } : null;
  if (openedBytes(pieces) + piecesBytes(copies) <= TASK_BYTES) return [{ ...common, create, pieces, copies }];
  if (create !== null) makeFile(to.target, create);
  return [
    ...splitByFrames(pieces, TASK_BYTES).map(group => ({
      ...common,
      create: null,
      pieces: group,
      copies: [],
    })),
    ...splitByLength(copies).map(group => ({ ...common, create: null, pieces: [], copies: group })),
  ];
}

/** In the order of the file: those that lie side by side in it are read at once. */
function splitByLength(copies: readonly Piece[]): Piece[][] {
  const lists: Piece[][] = [];
  let room = 0;
  for (const piece of copies) {
    if (room <= 0) {
      lists.push([]);
      room = TASK_BYTES;
    }
    lists.at(-1)?.push(piece);
    room -= piece.length;
  }
  return lists;
}

/** Where the safety copy has a file whole, and how its pages are checked. */
function keptFile(
  path: string,
  from: { readonly places: Places; readonly manifest: Manifest },
): WriteTask['kept'] {
  const { pageChecksums, relationSegmentBlocks } = from.manifest.backup;
  const relation = pageChecksums ? relationOf(path, relationSegmentBlocks) : null;
  return { path: keptPlace(from.places, path), firstBlock: relation?.firstBlock ?? null };
}

async function removeDirectories(
  places: Places,
  found: Iterable<string>,
  wanted: ReadonlyMap<string, number>,
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

function makeFile(path: string, facts: NewFile): void {
  // One that is there was made by an attempt before this one.
  rmSync(path, { force: true });
  closeSync(createFile(path, facts));
}
