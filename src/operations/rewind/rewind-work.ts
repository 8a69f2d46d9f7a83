import { closeSync, openSync, readSync } from 'node:fs';
import { fileError, systemCode } from '../../base/errors.ts';
import type { ChangeMap } from '../../engines/postgres/change-map.ts';
import { relationFileOf } from '../../engines/postgres/data-files-names.ts';
import type { FileLine } from '../../repository/manifest.ts';
import { type Manifest, manifestLines } from '../../repository/manifest-reader.ts';
import { rangeBytes } from '../backup/ranges.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type PageWork, pageRules } from './page-rules.ts';
import { livePlace, type Places } from './places.ts';
import type { SavedState } from './saved-state.ts';
import { isServerFile, type ServerFiles } from './server-files.ts';

/** What a rewind does with one file of the backup. */
export interface FileWork {
  readonly line: FileLine;
  readonly work: PageWork;
}

/** The links of tablespaces are there already. */
const TABLESPACE_MAP = 'tablespace_map';

/**
 * What is to be done with each file of the backup, in its order; `seen` is called for every path of it, directories
 * included. What else there is in the live directory does not belong there.
 */
export async function* rewindWork(
  context: Pick<InstanceContext, 'repository'>,
  from: { readonly manifest: Manifest; readonly state: SavedState },
  options: {
    readonly signal: AbortSignal;
    readonly seen: (path: string, mode: number, isFile: boolean) => void;
  },
): AsyncGenerator<FileWork, void, undefined> {
  const { manifest, state } = from;
  const rules = pageRules(state.map, manifest.backup);
  for await (const line of manifestLines(context.repository, manifest, { signal: options.signal })) {
    if (line.t === 'config') continue;
    const isOurs = line.p === 'backup_label' || isServerFile(line.p) || line.p.startsWith('pg_wal/');
    if (!isOurs || line.p.endsWith('.conf')) continue;
    options.seen(line.p, line.m, line.t === 'file');
    if (line.t === 'dir' || line.p === TABLESPACE_MAP) continue;
    const work = rules.workOf({
      path: line.p,
      baseBytes: line.s,
      liveBytes: state.live.files.get(line.p)?.sizeBytes ?? null,
      isSpGist: () => state.spGist.has(line.p),
    });
    yield { line, work: work ?? { kind: 'replace', left: [] } };
  }
}

/** What a rewind costs and changes, counted before anything is changed. */
export interface RewindAmount {
  /** Written over or made anew from the backup. */
  readonly pagesFromBackup: number;
  /** Changed since, and left to the replay, which overwrites them whole. */
  readonly pagesLeft: number;
  /** Of the live files, copied into the safety copy. */
  readonly pagesKept: number;
  readonly filesPatched: number;
  readonly filesReplaced: number;
  readonly filesUntouched: number;
  /** In the live directory and not in the backup. */
  readonly filesRemoved: number;
  /** To be written from the backup, whole files included. */
  readonly writtenBytes: number;
  readonly keptBytes: number;
  /** To be fetched and opened for it, whole frames: as stored, and unpacked. */
  readonly fetchedBytes: number;
  readonly openedBytes: number;
}

/** Counts what a rewind would do, and finds damaged pages of the backup that it would need. */
export async function countRewindWork(
  context: Pick<InstanceContext, 'repository'>,
  from: { readonly manifest: Manifest; readonly state: SavedState },
  signal: AbortSignal,
): Promise<{ readonly amount: RewindAmount; readonly neededDamage: string | null }> {
  const { backup } = from.manifest;
  const { blockSize } = backup;
  const known = new Set<string>();
  const count = {
    ...{
      pagesFromBackup: 0,
      pagesLeft: 0,
      pagesKept: 0,
      filesPatched: 0,
      filesReplaced: 0,
      filesUntouched: 0,
    },
    ...{ writtenBytes: 0, keptBytes: 0, fetchedBytes: 0, openedBytes: 0 },
  };
  let neededDamage: string | null = null;
  const seen = (path: string): unknown => known.add(path);
  for await (const { line, work } of rewindWork(context, from, { signal, seen })) {
    if (work.kind === 'keep') {
      count.filesUntouched += 1;
      continue;
    }
    const wanted = wantedRanges(line, work);
    const isRelation = relationFileOf(line.p) !== null;
    const pages = (bytes: number): number => (isRelation ? Math.ceil(bytes / blockSize) : 0);
    count.writtenBytes += rangeBytes(wanted);
    count.pagesFromBackup += pages(rangeBytes(wanted));
    if (work.kind === 'patch') {
      count.filesPatched += 1;
      count.pagesLeft += pages(work.leftBytes);
      count.pagesKept += pages(rangeBytes(work.changed));
      count.keptBytes += rangeBytes(work.changed);
    } else {
      count.filesReplaced += 1;
      count.pagesLeft += pages(rangeBytes(work.left));
    }
    const frames = framesNeeded(line, wanted);
    count.fetchedBytes += frames.stored;
    count.openedBytes += frames.raw;
    neededDamage ??= damageIn(line, wanted, backup);
  }
  let filesRemoved = 0;
  for (const path of from.state.live.files.keys())
    if (path.includes('/') && !known.has(path)) filesRemoved += 1;
  return { amount: { ...count, filesRemoved }, neededDamage };
}

/** What of a file comes from the backup, as `[offset, length, …]`. */
export function wantedRanges(line: FileLine, work: PageWork): readonly number[] {
  if (work.kind === 'keep') return [];
  if (work.kind === 'patch') return work.fromBase;
  const ranges: number[] = [];
  let at = 0;
  for (let index = 0; index < work.left.length; index += 2) {
    if (work.left[index]! > at) ranges.push(at, work.left[index]! - at);
    at = work.left[index]! + work.left[index + 1]!;
  }
  if (at < line.s) ranges.push(at, line.s - at);
  return ranges;
}

function framesNeeded(line: FileLine, wanted: readonly number[]): { stored: number; raw: number } {
  let stored = 0;
  let raw = 0;
  let at = 0;
  let index = 0;
  for (const chunk of line.c) {
    const end = at + chunk[0];
    while (index < wanted.length && wanted[index]! + wanted[index + 1]! <= at) index += 2;
    if (index < wanted.length && wanted[index]! < end) {
      stored += chunk[4];
      raw += chunk[5];
    }
    at = end;
  }
  return { stored, raw };
}

function damageIn(line: FileLine, wanted: readonly number[], backup: Manifest['backup']): string | null {
  for (const page of backup.damagedPages) {
    if (page.path !== line.p) continue;
    const at = (page.block % backup.relationSegmentBlocks) * backup.blockSize;
    for (let index = 0; index < wanted.length; index += 2)
      if (at >= wanted[index]! && at < wanted[index]! + wanted[index + 1]!)
        return `block ${page.block} of ${page.path}`;
  }
  return null;
}

/** @source access/spgist_private.h, SPGIST_MAGIC_NUMBER, behind the page header */
const SPGIST_MAGIC = 0xba0babee;
const MAGIC_OFFSET = 24;

/** The first files of those relations that the log names and whose metapage says that they are SP-GiST indexes. */
export function findSpGist(places: Places, live: ServerFiles, map: ChangeMap): Set<string> {
  const named = new Set<string>();
  for (const { relation, fork } of map.forks.values())
    if (fork === 0) named.add(`${relation.tablespace}/${relation.database}/${relation.file}`);
  const found = new Set<string>();
  for (const path of live.files.keys()) {
    if (!/\/\d+$/.test(path)) continue;
    const relation = relationFileOf(path);
    if (relation === null || !named.has(`${relation.tablespace}/${relation.database}/${relation.file}`))
      continue;
    if (hasSpGistMetapage(livePlace(places, path))) found.add(path);
  }
  return found;
}

function hasSpGistMetapage(file: string): boolean {
  const magic = Buffer.alloc(4);
  let handle: number;
  try {
    handle = openSync(file, 'r');
  } catch (error) {
    // Dropped, so that all of it is made anew.
    if (systemCode(error) === 'ENOENT') return false;
    throw fileError('read', file, error);
  }
  try {
    return readSync(handle, magic, 0, 4, MAGIC_OFFSET) === 4 && magic.readUInt32LE() === SPGIST_MAGIC;
  } finally {
    closeSync(handle);
  }
}
