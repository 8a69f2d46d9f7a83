import { assert } from '../../base/errors.ts';
import { forkKey } from '../../engines/postgres/change-map.ts';
import { relationFileOf, relationOf } from '../../engines/postgres/data-files-names.ts';
import { SettledPages } from '../../engines/postgres/settled-pages.ts';
import type { FileLine } from '../../repository/manifest.ts';
import type { Manifest } from '../../repository/manifest-reader.ts';
import { gapsBetween, type Ranges, rangeBytes, uniteRanges } from '../backup/ranges.ts';
import type { InstanceContext } from '../instance-context.ts';
import type { PageWork } from './page-rules.ts';
import { piecesOf } from './pieces.ts';
import type { Piece } from './rewind-protocol.ts';
import { CONTROL_FILE, firstFileOf, rewindWork } from './rewind-work.ts';
import type { SavedState } from './saved-state.ts';
import type { Settling } from './settling.ts';

/** A file that a rewind writes, and where in the backup it finds what. */
export interface WorkItem {
  readonly path: string;
  readonly sizeBytes: number;
  readonly mode: number;
  readonly work: Exclude<PageWork, { kind: 'keep' }>;
  readonly pieces: readonly Piece[];
  /** Of pages that are copied from the live file, put aside: where the backup has them, should they be damaged there. */
  readonly copies: readonly Piece[];
}

/** Every decision of a rewind. Only what changes is held: of files that are not touched no more than the path. */
export interface RewindWork {
  /** In the order of the backup; without the control file. */
  readonly items: readonly WorkItem[];
  readonly control: WorkItem;
  readonly untouched: ReadonlySet<string>;
  /** All files of the backup: what else is in the live directory does not belong there. */
  readonly files: ReadonlySet<string>;
  /** All directories of the backup, with their modes; parents first. */
  readonly directories: ReadonlyMap<string, number>;
  readonly amount: RewindAmount;
  /** What the log is thinned by; null: all of it is replayed. */
  readonly settled: SettledFiles | null;
  /** A damaged page of the backup that would be needed, for people; null when there is none. */
  readonly neededDamage: string | null;
}

/** The pages that a rewind leaves as they are. */
export interface SettledFiles {
  readonly settling: Settling;
  readonly pages: SettledPages;
  /** The first files of the relations that have any. */
  readonly relations: readonly { readonly path: string; readonly key: string }[];
}

/** What a rewind costs and changes, counted before anything is changed. */
export interface RewindAmount {
  /** Written over or made anew from the backup. */
  readonly pagesFromBackup: number;
  /** Changed since, and left to the replay, which overwrites them whole. */
  readonly pagesLeft: number;
  /** Changed since, but not since the last checkpoint before the target: they are as they have to be. */
  readonly pagesSettled: number;
  /** Of the live files, copied into the safety copy. */
  readonly pagesKept: number;
  readonly filesPatched: number;
  readonly filesReplaced: number;
  readonly filesUntouched: number;
  /** In the live directory and not in the backup. */
  readonly filesRemoved: number;
  /** To be written from the backup, whole files included. */
  readonly writtenBytes: number;
  /** To be copied from live files that are put aside, as they are made anew. */
  readonly copiedBytes: number;
  readonly keptBytes: number;
  /** To be fetched and opened for it, whole frames: as stored, and unpacked. */
  readonly fetchedBytes: number;
  readonly openedBytes: number;
}

/** Decides about every file of the backup, reading its list once. */
export async function decideWork(
  context: Pick<InstanceContext, 'repository'>,
  from: {
    readonly manifest: Manifest;
    readonly state: SavedState;
    /** Only where nothing was replayed over them yet. */
    readonly leaveSettled: boolean;
    /** Relations of which no page is left as it is, by {@link forkKey}. */
    readonly replayed?: ReadonlySet<string>;
  },
  signal: AbortSignal,
): Promise<RewindWork> {
  const { manifest, state } = from;
  const files = new Set<string>();
  const directories = new Map<string, number>();
  const seen = (path: string, mode: number, isFile: boolean): void => {
    if (isFile) files.add(path);
    else directories.set(path, mode);
  };
  const items: WorkItem[] = [];
  const untouched = new Set<string>();
  const tally = newTally(manifest.backup.blockSize);
  const settled = gatherSettled(from.state, manifest.backup);
  let control: WorkItem | null = null;
  let neededDamage: string | null = null;
  for await (const { line, work } of rewindWork(context, from, { signal, seen })) {
    settled.add(line, work);
    if (work.kind === 'keep') {
      untouched.add(line.p);
      continue;
    }
    const wanted = wantedRanges(line, work);
    const pieces = piecesOf(line, wanted);
    tally.add(line, work, wanted);
    neededDamage ??= damageIn(line, wanted, manifest.backup);
    const copies = piecesOf(line, fromLiveOf(work));
    const sizeBytes = work.kind === 'patch' ? Math.max(line.s, work.settledUpTo) : line.s;
    const item = { path: line.p, sizeBytes, mode: line.m, work, pieces, copies };
    if (line.p === CONTROL_FILE) control = item;
    else items.push(item);
  }
  const hidden = settled.hidden();
  if (hidden.size > 0) return decideWork(context, { ...from, replayed: hidden }, signal);
  assert(control !== null, 'a backup has a control file');
  let filesRemoved = 0;
  for (const path of state.live.files.keys()) if (path.includes('/') && !files.has(path)) filesRemoved += 1;
  const amount = { ...tally.total(), filesUntouched: untouched.size, filesRemoved };
  return {
    ...{ items, control, untouched, files, directories, amount, neededDamage },
    settled: settled.found(),
  };
}

function gatherSettled(
  { settling }: SavedState,
  backup: Manifest['backup'],
): {
  add(line: FileLine, work: PageWork): void;
  found(): SettledFiles | null;
  /**
   * Relations with settled pages in a file behind one that is shorter than a whole one in the backup. What the replay would make
   * that one longer for is not replayed, and the server looks for no file behind it: as where a table was longer once, and its second
   * file is there, and empty. @source storage/smgr/md.c, mdnblocks
   */
  hidden(): ReadonlySet<string>;
} {
  const { blockSize, relationSegmentBlocks } = backup;
  const pages = new SettledPages();
  const relations = new Map<string, string>();
  const shortest = new Map<string, number>();
  const last = new Map<string, number>();
  return {
    found: () => {
      if (settling === null || pages.isEmpty) return null;
      return { settling, pages, relations: [...relations].map(([path, key]) => ({ path, key })) };
    },
    hidden: () => {
      const isHidden = ([key, file]: [string, number]): boolean =>
        file > (shortest.get(key) ?? Number.POSITIVE_INFINITY);
      return new Set([...last].filter(isHidden).map(([key]) => key));
    },
    add(line, work) {
      const own = relationOf(line.p, relationSegmentBlocks);
      const relation = relationFileOf(line.p);
      if (settling === null || own?.fork !== 'main' || relation === null) return;
      const key = forkKey(relation, 0);
      if (line.s < relationSegmentBlocks * blockSize)
        shortest.set(key, Math.min(own.segmentNumber, shortest.get(key) ?? own.segmentNumber));
      if (work.kind !== 'patch' || work.settledUpTo === 0) return;
      last.set(key, Math.max(own.segmentNumber, last.get(key) ?? 0));
      const end = own.firstBlock + Math.trunc(work.settledUpTo / blockSize);
      pages.add(relation, own.firstBlock, end, settling.pages.get(key) ?? null);
      relations.set(firstFileOf(line.p), key);
    },
  };
}

type Tally = Omit<RewindAmount, 'filesUntouched' | 'filesRemoved'>;

function newTally(blockSize: number): {
  add(line: FileLine, work: WorkItem['work'], wanted: readonly number[]): void;
  total(): Tally;
} {
  const pagesOf = (line: FileLine, bytes: number): number =>
    relationFileOf(line.p) === null ? 0 : Math.ceil(bytes / blockSize);
  const count = {
    ...{ pagesFromBackup: 0, pagesLeft: 0, pagesSettled: 0, pagesKept: 0, filesPatched: 0, filesReplaced: 0 },
    ...{ writtenBytes: 0, copiedBytes: 0, keptBytes: 0, fetchedBytes: 0, openedBytes: 0 },
  };
  return {
    total: () => count,
    add(line, work, wanted) {
      const bytes = rangeBytes(wanted);
      count.writtenBytes += bytes;
      count.copiedBytes += rangeBytes(fromLiveOf(work));
      count.pagesFromBackup += pagesOf(line, bytes);
      if (work.kind === 'patch') {
        const keptBytes = rangeBytes(work.changed);
        count.filesPatched += 1;
        count.pagesLeft += pagesOf(line, work.leftBytes + work.overwrittenBytes);
        count.pagesSettled += pagesOf(line, work.settledBytes - work.overwrittenBytes);
        count.pagesKept += pagesOf(line, keptBytes);
        count.keptBytes += keptBytes;
      } else {
        count.filesReplaced += 1;
        count.pagesLeft += pagesOf(line, rangeBytes(work.left));
      }
      const frames = framesNeeded(line, wanted);
      count.fetchedBytes += frames.stored;
      count.openedBytes += frames.raw;
    },
  };
}

/** What of a file comes from the backup, as `[offset, length, …]`. */
function wantedRanges(line: FileLine, work: PageWork): Ranges {
  if (work.kind === 'keep') return [];
  if (work.kind === 'patch') return work.fromBase;
  return gapsBetween(uniteRanges(work.left, work.fromLive), line.s);
}

function fromLiveOf(work: PageWork): Ranges {
  return work.kind === 'replace' ? work.fromLive : [];
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
