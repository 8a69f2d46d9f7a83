import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type ChangeMap, forkKey } from '../../engines/postgres/change-map.ts';
import type { DataFileEntry } from '../../engines/postgres/data-files.ts';
import { relationFileOf } from '../../engines/postgres/data-files-names.ts';
import {
  CHUNK_LENGTH,
  CHUNK_NUMBERS,
  CHUNK_RAW,
  CHUNK_START,
  type ChunkList,
} from '../../repository/chunk-list.ts';
import { FRAME_BODY_BYTES } from '../../repository/compression.ts';
import type { PackedFileLine } from '../../repository/manifest-line.ts';
import type { FileChanges, SourceFile } from './file-assembler.ts';
import type { PageSelection } from './page-selection.ts';
import { lowerBound } from './parent-files.ts';
import { appendRange, packRanges, type Ranges, splitRanges, uniteRanges } from './ranges.ts';
import { rangesToRead } from './ranges-to-read.ts';

/** How the pages that changed since the parent are found. */
export type Changes =
  | { readonly by: 'log'; readonly map: ChangeMap }
  /** Pages that say that they changed at `sinceLsn` or later; databases made since, by their time, are copied whole. */
  | { readonly by: 'page position'; readonly sinceLsn: bigint; readonly sinceMs: number };

export interface ParentContent {
  find(path: string): PackedFileLine | null;
}

/** What a task of an incremental backup stores at most: a multiple of a frame, so that frames are full. */
const PART_BYTES = 4 * FRAME_BODY_BYTES;
/** What a task reads that finds out itself what changed. */
const SCAN_BYTES = 32 * FRAME_BODY_BYTES;

/** Says of each file of the data directory what of it is to be read and stored, and what the parent has. */
export function changedFiles(options: {
  readonly parent: ParentContent;
  readonly changes: Changes;
  readonly blockSize: number;
  readonly relationSegmentBlocks: number;
}): (entry: DataFileEntry, source: SourceFile) => Promise<SourceFile> {
  const { parent, changes } = options;
  const known = changes.by === 'log' ? changedByLog(changes.map, options) : changedByPosition(changes);
  return async (entry, source) => {
    const isMain = entry.relation?.fork === 'main';
    // Forks other than main are small, and the free space map is not logged: they are compared, as all other files are.
    const change = isMain ? await known(entry) : null;
    if (change === 'whole') return source;
    const chunks = parent.find(entry.path)?.chunks;
    if (chunks === undefined) return source;
    if (change === null) return { ...source, changes: byContent(source, chunks) };
    const { blockSize } = options;
    const ranges = rangesToRead({ sizeBytes: source.sizeBytes, blockSize, parent: chunks }, change.ranges);
    const parts = change.scan === null ? partsOf(ranges) : scanParts(source.sizeBytes, ranges, change.scan);
    return { ...source, changes: { parent: chunks, parts } };
  };
}

/** Ranges that certainly changed, and where each page is asked: since when. */
type PageChange = { readonly ranges: Ranges; readonly scan: bigint | null };
type FindChange = (entry: DataFileEntry) => PageChange | 'whole' | Promise<PageChange | 'whole'>;

/** A database's PG_VERSION is written when the database is made, and never again. */
function changedByPosition({ sinceLsn, sinceMs }: Extract<Changes, { by: 'page position' }>): FindChange {
  let directory = '';
  let isNew = false;
  return async ({ source }) => {
    if (dirname(source) !== directory) {
      directory = dirname(source);
      const found = await stat(join(directory, 'PG_VERSION')).catch(() => null);
      isNew = found !== null && found.mtimeMs >= sinceMs;
    }
    return isNew ? 'whole' : { ranges: [], scan: sinceLsn };
  };
}

function changedByLog(
  map: ChangeMap,
  {
    blockSize,
    relationSegmentBlocks,
  }: { readonly blockSize: number; readonly relationSegmentBlocks: number },
): FindChange {
  const storage = collectStorage(map);
  return entry => {
    const relation = relationFileOf(entry.path);
    if (relation === null || entry.relation === null) return 'whole';
    const { tablespace, database } = relation;
    if (
      storage.tablespaces.has(tablespace) ||
      storage.databases.has(database) ||
      storage.relations.has(forkKey(relation, 0))
    )
      return 'whole';
    const blocks = map.forks.get(forkKey(relation, 0))?.blocks ?? new Uint32Array();
    const { firstBlock } = entry.relation;
    const lastBlock = firstBlock + relationSegmentBlocks;
    const changed: number[] = [];
    // The metapage of an SP-GiST index changes along with its other pages, and is not logged.
    if (blocks.length > 0 && firstBlock === 0) changed.push(0, blockSize);
    for (let index = lowerBound(blocks, firstBlock); index < blocks.length; index += 1) {
      const block = blocks[index]!;
      if (block >= lastBlock) break;
      appendRange(changed, (block - firstBlock) * blockSize, blockSize);
    }
    // Behind where it was cut, pages may be there again that were never used and are not logged.
    const cut = storage.cuts.get(forkKey(relation, 0));
    const from = Math.max(0, (cut ?? lastBlock) - firstBlock) * blockSize;
    const behind = from < entry.sizeBytes ? [from, entry.sizeBytes - from] : [];
    return { ranges: uniteRanges(changed, behind), scan: null };
  };
}

/** What the log says of whole files. */
function collectStorage(map: ChangeMap): {
  readonly relations: ReadonlySet<string>;
  readonly databases: ReadonlySet<number>;
  readonly tablespaces: ReadonlySet<number>;
  /** By relation: the fewest blocks it was cut to. */
  readonly cuts: ReadonlyMap<string, number>;
} {
  const relations = new Set<string>();
  const databases = new Set<number>();
  const tablespaces = new Set<number>();
  const cuts = new Map<string, number>();
  for (const event of map.storage) {
    if (event.kind === 'relation created' || event.kind === 'relation dropped')
      relations.add(forkKey(event.relation, 0));
    else if (event.kind === 'database created' || event.kind === 'database dropped')
      databases.add(event.database);
    else if (event.kind === 'tablespace created' || event.kind === 'tablespace dropped')
      tablespaces.add(event.tablespace);
    else if (event.kind === 'relation truncated' && event.forks.includes(0)) {
      const key = forkKey(event.relation, 0);
      cuts.set(key, Math.min(event.blocks, cuts.get(key) ?? event.blocks));
    }
  }
  return { relations, databases, tablespaces, cuts };
}

function partsOf(ranges: Ranges): FileChanges['parts'] {
  return splitRanges(ranges, PART_BYTES).map(list => {
    const offset = list[0] ?? 0;
    const last = list.length - 2;
    const length = (list[last] ?? 0) + (list[last + 1] ?? 0) - offset;
    return { offset, length, selection: { kind: 'ranges', ranges: packRanges(list) } };
  });
}

function scanParts(sizeBytes: number, ranges: Ranges, sinceLsn: bigint): FileChanges['parts'] {
  return cut(sizeBytes, SCAN_BYTES).map(part => ({
    ...part,
    selection: { kind: 'since', ranges, sinceLsn },
  }));
}

function byContent(file: SourceFile, chunks: ChunkList): FileChanges {
  const hashes = hashesOf(chunks, file.sizeBytes);
  const parts = cut(file.sizeBytes, SCAN_BYTES).map(part => {
    const first = part.offset / FRAME_BODY_BYTES;
    const selection: PageSelection = {
      kind: 'content',
      hashes: hashes.slice(first, first + Math.ceil(part.length / FRAME_BODY_BYTES)),
    };
    return { ...part, selection };
  });
  return { parent: chunks, parts };
}

/** The hash of each 1 MiB of a file of this size, where one frame of the parent is exactly that. */
function hashesOf({ numbers, hashes: known }: ChunkList, sizeBytes: number): (string | null)[] {
  const hashes = new Array<string | null>(Math.ceil(sizeBytes / FRAME_BODY_BYTES)).fill(null);
  if (known === null) return hashes;
  let at = 0;
  for (const [index, hash] of known.entries()) {
    const chunk = index * CHUNK_NUMBERS;
    const length = numbers[chunk + CHUNK_LENGTH]!;
    const isWhole =
      numbers[chunk + CHUNK_START] === 0 &&
      length === numbers[chunk + CHUNK_RAW] &&
      length === Math.min(FRAME_BODY_BYTES, sizeBytes - at);
    if (isWhole && at % FRAME_BODY_BYTES === 0 && hash !== '') hashes[at / FRAME_BODY_BYTES] = hash;
    at += length;
  }
  return hashes;
}

function cut(sizeBytes: number, partBytes: number): { offset: number; length: number }[] {
  return Array.from({ length: Math.ceil(sizeBytes / partBytes) }, (_, index) => {
    const offset = index * partBytes;
    return { offset, length: Math.min(partBytes, sizeBytes - offset) };
  });
}
