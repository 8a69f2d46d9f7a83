import { type ChangeMap, type ForkChanges, forkKey } from '../../engines/postgres/change-map.ts';
import { relationFileOf, relationOf } from '../../engines/postgres/data-files-names.ts';
import { commonRanges, gapsBetween, type Ranges, rangeBytes, uniteRanges } from '../backup/ranges.ts';
import { cutRanges, oneRange, pushRange } from './byte-ranges.ts';
import type { Settling } from './settling.ts';

/** What a rewind does with one file of a relation's main fork. Ranges are of bytes in the file. */
export type PageWork =
  /** No record names it and it is as long as in the backup. */
  | { readonly kind: 'keep' }
  /** Pages of it are written over. */
  | {
      readonly kind: 'patch';
      readonly fromBase: Ranges;
      /** What of the live file the rewind or the replay changes or cuts off. */
      readonly changed: Ranges;
      /** Named pages that the replay overwrites whole. */
      readonly leftBytes: number;
      /** Named pages that are left as they are until the checkpoint before the target. */
      readonly settledBytes: number;
      /** Of these, what the replay overwrites whole after it. */
      readonly overwrittenBytes: number;
      /**
       * So many bytes from its start are settled, but for the pages that were changed since and not overwritten first; more than
       * the backup has, where the file has grown. 0: none.
       */
      readonly settledUpTo: number;
      /** Pages that the backup does not have, and that are none yet at the checkpoint before the target. */
      readonly zeroed: Ranges;
    }
  /**
   * It is put aside and made anew. `left` is not even fetched; `fromLive` are pages that no record names, which the file
   * that was put aside has as the backup has them.
   */
  | { readonly kind: 'replace'; readonly left: Ranges; readonly fromLive: Ranges };

/** The facts of a file in the backup and in the live directory. */
export interface FileFacts {
  readonly path: string;
  readonly baseBytes: number;
  /** Null: it is not there. */
  readonly liveBytes: number | null;
  /** Whether it is of an SP-GiST index; asked only for relations that the log names. */
  readonly isSpGist: () => boolean;
}

/** What keeping a page of a file costs, where copying one to a new file costs 1: past the page cache, hardly more. */
export const KEEPING_COSTS = 1;

export interface PageRules {
  /** Null for what is no main fork: such files are always replaced. */
  workOf(file: FileFacts): PageWork | null;
}

/**
 * Decides which pages a rewind must take from the backup, which it may leave to the replay, and which nobody has touched.
 * The rules were proven page by page against full restores; each one that is missing here is silent corruption.
 */
export function pageRules(
  map: ChangeMap,
  facts: { readonly blockSize: number; readonly relationSegmentBlocks: number },
  by: {
    readonly keepingCosts: number;
    /** Null: all of the range is replayed. */
    readonly settling: Settling | null;
    /** False: as with it, but every page that a replay of the whole log reads comes from the backup. */
    readonly leaveSettled: boolean;
    /** Relations, by {@link forkKey}, for which that is so in any case. */
    readonly replayed?: ReadonlySet<string>;
  } = { keepingCosts: KEEPING_COSTS, settling: null, leaveSettled: false },
): PageRules {
  const { blockSize, relationSegmentBlocks } = facts;
  const storage = storageRules(map);
  return {
    workOf(file) {
      const own = relationOf(file.path, relationSegmentBlocks);
      const relation = relationFileOf(file.path);
      if (own === null || relation === null || own.fork !== 'main') return null;
      const { liveBytes } = file;
      const whole =
        storage.relations.has(forkKey(relation, 0)) ||
        storage.databases.has(`${relation.tablespace}/${relation.database}`);
      if (whole || liveBytes === null) return { kind: 'replace', left: [], fromLive: [] };
      const changes = map.forks.get(forkKey(relation, 0));
      const cutBlocks = storage.truncated.get(forkKey(relation, 0)) ?? Number.POSITIVE_INFINITY;
      if (changes === undefined && cutBlocks === Number.POSITIVE_INFINITY && liveBytes === file.baseBytes)
        return { kind: 'keep' };
      const cutBytes = Math.max(0, (cutBlocks - own.firstBlock) * blockSize);
      const place = { firstBlock: own.firstBlock, blockSize, relationSegmentBlocks };
      const canSettle =
        by.settling !== null &&
        !storage.cut.has(forkKey(relation, 0)) &&
        !storage.copied.has(relation.database) &&
        changes !== undefined &&
        !file.isSpGist();
      const since = canSettle ? namedPages(by.settling?.pages.get(forkKey(relation, 0)), place) : null;
      return decide({
        keepingCosts: by.keepingCosts,
        leaveSettled: by.leaveSettled && !by.replayed?.has(forkKey(relation, 0)),
        since,
        spares: by.settling?.spares ?? 0,
        baseBytes: file.baseBytes,
        liveBytes,
        // A page that was written in part only is none.
        liveWholeBytes: liveBytes - (liveBytes % blockSize),
        cutBytes,
        ...namedPages(changes, place),
        // Its metapage changes without a record, whenever the index does.
        alwaysBytes: own.segmentNumber === 0 && changes !== undefined && file.isSpGist() ? blockSize : 0,
      });
    },
  };
}

/**
 * What of a file a map says was changed, to bring all of it back: its named pages; everything, where the relation or its
 * database was created or dropped; and where it was cut, everything from there on.
 */
export function changedRanges(
  map: ChangeMap,
  facts: { readonly blockSize: number; readonly relationSegmentBlocks: number },
): (path: string, sizeBytes: number) => Ranges {
  const { blockSize, relationSegmentBlocks } = facts;
  const storage = storageRules(map);
  return (path, sizeBytes) => {
    const own = relationOf(path, relationSegmentBlocks);
    const relation = relationFileOf(path);
    if (own === null || relation === null) return [];
    const key = forkKey(relation, 0);
    if (storage.relations.has(key) || storage.databases.has(`${relation.tablespace}/${relation.database}`))
      return cutRanges([0, sizeBytes], 0, sizeBytes);
    const { firstBlock } = own;
    const named = namedPages(map.forks.get(key), { firstBlock, blockSize, relationSegmentBlocks });
    const cut = storage.truncated.get(key);
    const cutBytes = cut === undefined ? sizeBytes : Math.max(0, (cut - firstBlock) * blockSize);
    const behind = cutRanges([cutBytes, Number.MAX_SAFE_INTEGER - cutBytes], 0, sizeBytes);
    return cutRanges(uniteRanges(uniteRanges(named.needed, named.left), behind), 0, sizeBytes);
  };
}

interface StorageRules {
  /** Relations that were created or dropped: nothing of their files can be trusted to be as in the backup. */
  readonly relations: ReadonlySet<string>;
  /** The fewest pages a relation was ever cut to. */
  readonly truncated: ReadonlyMap<string, number>;
  /** Relations of which any fork was cut: the visibility map alone, by `pg_truncate_visibility_map`. */
  readonly cut: ReadonlySet<string>;
  /** Databases that were created or dropped, as `tablespace/database`. */
  readonly databases: ReadonlySet<string>;
  /** Databases whose files were copied as they lay on the disk, which a replay of the log does again. */
  readonly copied: ReadonlySet<number>;
}

function storageRules(map: ChangeMap): StorageRules {
  const relations = new Set<string>();
  const truncated = new Map<string, number>();
  const cut = new Set<string>();
  const databases = new Set<string>();
  const copied = new Set<number>();
  for (const event of map.storage) {
    if (event.kind === 'relation created' && event.fork === 0) relations.add(forkKey(event.relation, 0));
    if (event.kind === 'relation dropped') relations.add(forkKey(event.relation, 0));
    if (event.kind === 'relation truncated') cut.add(forkKey(event.relation, 0));
    if (event.kind === 'relation truncated' && event.forks.includes(0)) {
      const key = forkKey(event.relation, 0);
      truncated.set(key, Math.min(event.blocks, truncated.get(key) ?? Number.POSITIVE_INFINITY));
    }
    if (event.kind === 'database created') databases.add(`${event.tablespace}/${event.database}`);
    if (event.kind === 'database created' && event.source !== null) copied.add(event.source.database);
    if (event.kind === 'database dropped')
      for (const tablespace of event.tablespaces) databases.add(`${tablespace}/${event.database}`);
  }
  return { relations, truncated, cut, databases, copied };
}

/** The pages of one file that the log names: those the replay overwrites whole, and the others. */
function namedPages(
  changes: ForkChanges | undefined,
  file: { readonly firstBlock: number; readonly blockSize: number; readonly relationSegmentBlocks: number },
): { readonly needed: Ranges; readonly left: Ranges } {
  const needed: number[] = [];
  const left: number[] = [];
  if (changes === undefined) return { needed: [], left: [] };
  const { blocks, overwrittenFirst } = changes;
  const end = file.firstBlock + file.relationSegmentBlocks;
  for (let index = lowerBound(blocks, file.firstBlock); index < blocks.length; index += 1) {
    const block = blocks[index]!;
    if (block >= end) break;
    const list = overwrittenFirst[index] === 1 ? left : needed;
    pushRange(list, (block - file.firstBlock) * file.blockSize, file.blockSize);
  }
  return { needed, left };
}

interface Decision {
  readonly keepingCosts: number;
  readonly leaveSettled: boolean;
  /** What was changed since the checkpoint: pages that are not settled, and those that the replay overwrites. Null: nothing is settled. */
  readonly since: { readonly needed: Ranges; readonly left: Ranges } | null;
  readonly spares: number;
  readonly baseBytes: number;
  readonly liveBytes: number;
  readonly liveWholeBytes: number;
  /** From here on every page comes from the backup. */
  readonly cutBytes: number;
  readonly needed: Ranges;
  readonly left: Ranges;
  /** From the start of the file, whether named or not. */
  readonly alwaysBytes: number;
}

function decide(file: Decision): PageWork {
  const { baseBytes, liveBytes, needed } = file;
  /** Behind it nothing of the live file is used, but for settled pages. */
  const soundBytes = Math.min(file.liveWholeBytes, file.cutBytes, baseBytes);
  const left = cutRanges(cutRanges(file.left, file.alwaysBytes, soundBytes), 0, baseBytes);
  /** The start, whatever is named, and everything behind what is sound. */
  const alwaysAnd = (end: number, named: Ranges): Ranges => {
    const around = uniteRanges(oneRange(0, file.alwaysBytes), oneRange(soundBytes, end - soundBytes));
    return cutRanges(uniteRanges(named, around), 0, end);
  };
  const fromBase = alwaysAnd(baseBytes, needed);
  const changed = alwaysAnd(liveBytes, uniteRanges(needed, file.left));
  const fromLive = gapsBetween(uniteRanges(fromBase, left), soundBytes);
  const settled = settle(file, soundBytes);
  const still = (ranges: Ranges): Ranges =>
    settled === null ? ranges : commonRanges(ranges, settled.except);
  const neededStill = alwaysAnd(baseBytes, still(needed));
  const settledBytes = settled?.bytes ?? 0;
  const notDone = rangeBytes(fromBase) - rangeBytes(neededStill) + file.spares * settledBytes;
  // Either what changes is copied aside, which must be on the disk before anything is written over, and the rest stays; or
  // the file is renamed aside, and the rest is copied. Only what stays can be settled, and then need not be replayed.
  if (file.keepingCosts * rangeBytes(changed) > rangeBytes(fromLive) + notDone)
    return { kind: 'replace', left, fromLive };
  if (settled === null || !file.leaveSettled)
    return {
      ...{ kind: 'patch', fromBase, changed, leftBytes: rangeBytes(left), settledBytes: 0 },
      ...{ overwrittenBytes: 0, settledUpTo: 0, zeroed: [] },
    };
  return {
    ...{ kind: 'patch', fromBase: neededStill, changed, leftBytes: rangeBytes(still(left)), settledBytes },
    ...{ overwrittenBytes: settled.overwrittenBytes, settledUpTo: settled.upTo },
    ...{ zeroed: cutRanges(settled.except, soundBytes, settled.upTo) },
  };
}

/** How far a file has settled pages, but for some; null where it has none. */
function settle(
  { since, needed, left, baseBytes, liveWholeBytes }: Decision,
  soundBytes: number,
): {
  readonly upTo: number;
  readonly except: Ranges;
  readonly bytes: number;
  readonly overwrittenBytes: number;
} | null {
  if (since === null) return null;
  const named = uniteRanges(needed, left);
  const settledOf = (end: number): Ranges => {
    const all = cutRanges(named, 0, end);
    return commonRanges(all, gapsBetween(since.needed, end));
  };
  const found = settledOf(liveWholeBytes);
  const last = found.length - 2;
  // Where the file has grown: a page that was changed before the target, or the checkpoint, was there at the target, and so were
  // those in front of it.
  const grown = soundBytes === baseBytes && last >= 0 ? found[last]! + found[last + 1]! : 0;
  const upTo = Math.max(soundBytes, grown);
  const settled = settledOf(upTo);
  const overwrittenBytes = rangeBytes(commonRanges(settled, since.left));
  const bytes = rangeBytes(settled);
  return bytes === 0 ? null : { upTo, except: since.needed, bytes, overwrittenBytes };
}

/** The index of the first item that is at least `value`. */
function lowerBound(sorted: Uint32Array, value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
