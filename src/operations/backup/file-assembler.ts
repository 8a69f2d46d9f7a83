import { assert } from '../../base/errors.ts';
import {
  CHUNK_LENGTH,
  CHUNK_NUMBERS,
  CHUNK_PACK,
  type ChunkList,
  ChunkListBuilder,
} from '../../repository/chunk-list.ts';
import type { DamagedPage, PackFacts } from '../../repository/manifest.ts';
import type { PackedConfigLine, PackedFileLine } from '../../repository/manifest-line.ts';
import type { StoredFrame } from '../../repository/pack-writer.ts';
import type { ReadResult, ReadTask } from './backup-protocol.ts';
import type { PageSelection } from './page-selection.ts';
import { patchChunks } from './patch-chunks.ts';
import type { PackedRanges } from './ranges.ts';

/** A file to be copied, in one or several ranges. */
export interface SourceFile {
  readonly path: string;
  /** An absolute path, or the bytes themselves. */
  readonly source: string | Uint8Array;
  readonly sizeBytes: number;
  readonly mode: number;
  /** Set for pages of a relation: block number of the file's first page. */
  readonly firstBlock: number | null;
  /** Where a configuration file lay, when it was outside the data directory. */
  readonly configSource?: string;
  /** True: its frames get hashes although its pages carry checksums. */
  readonly hashed?: boolean;
  /** Of an incremental backup: what the parent has of it, and what is to be read. */
  readonly changes?: FileChanges;
  /** Of a file without which the backup is worthless: what is thrown when it is gone, or shorter than it was. */
  readonly whenNotWhole?: () => Error;
}

export interface FileChanges {
  /** With the numbers of packs that the assembler was given. */
  readonly parent: ChunkList;
  /** By tasks; none, when nothing is to be read. */
  readonly parts: readonly {
    readonly offset: number;
    readonly length: number;
    readonly selection: PageSelection;
  }[];
}

/** Ranges are small enough that the threads end together, large enough that messages cost nothing. */
const RANGE_BYTES = 8 * 1024 * 1024;

interface OpenFile {
  readonly file: SourceFile;
  readonly ranges: (readonly StoredFrame[] | null | undefined)[];
  missing: number;
  /** Of a file with changes: by task, the ranges of each frame, and where the file ended. */
  readonly selected: (readonly PackedRanges[])[];
  endsAt: number;
}

function wholeFile(file: SourceFile, ranges?: 'one-range'): { offset: number; length: number }[] {
  const rangeBytes = ranges === 'one-range' ? Math.max(1, file.sizeBytes) : RANGE_BYTES;
  const count = Math.max(1, Math.ceil(file.sizeBytes / rangeBytes));
  return Array.from({ length: count }, (_, range) => {
    const offset = range * rangeBytes;
    return { offset, length: Math.min(rangeBytes, file.sizeBytes - offset) };
  });
}

function readBytesOf({ ranges }: OpenFile): number {
  let bytes = 0;
  for (const frames of ranges) for (const { raw } of frames ?? []) bytes += raw;
  return bytes;
}

/** A line for the manifest, of a file that is complete. */
export type CopiedLine = PackedFileLine | PackedConfigLine;

/**
 * Cuts files into tasks for the workers, and makes manifest lines of the answers. Packs have two numbers: one from when
 * they are first heard of, those of a parent first, and one in the manifest, which only has those that chunks name.
 */
export class FileAssembler {
  readonly damaged: DamagedPage[] = [];
  readonly #blockSize: number;
  readonly #open = new Map<number, { readonly file: OpenFile; readonly range: number }>();
  /** By id: the number from when it was first heard of. */
  readonly #heard = new Map<string, number>();
  /** By that number: the one in the manifest. */
  readonly #listed = new Map<number, number>();
  readonly #facts = new Map<number, PackFacts>();
  #nextTask = 0;
  #copiedBytes = 0;
  #newBytes = 0;
  #fileCount = 0;

  constructor(blockSize: number, parentPacks: readonly PackFacts[] = []) {
    this.#blockSize = blockSize;
    for (const pack of parentPacks) this.addPack(pack);
    assert(this.#heard.size === parentPacks.length, 'a parent names a pack twice');
  }

  /** Bytes of all finished files. */
  get copiedBytes(): number {
    return this.#copiedBytes;
  }

  /** Bytes that were stored anew, before compression. */
  get newBytes(): number {
    return this.#newBytes;
  }

  get fileCount(): number {
    return this.#fileCount;
  }

  tasksOf(file: SourceFile, ranges?: 'one-range'): ReadTask[] {
    const parts = file.changes?.parts ?? wholeFile(file, ranges);
    const open: OpenFile = {
      file,
      ranges: new Array<undefined>(parts.length).fill(undefined),
      missing: parts.length,
      selected: [],
      endsAt: file.sizeBytes,
    };
    return parts.map((part, range) => {
      const id = this.#nextTask++;
      this.#open.set(id, { file: open, range });
      return {
        id,
        path: file.path,
        source: file.source,
        ...part,
        firstBlock: file.firstBlock === null ? null : file.firstBlock + part.offset / this.#blockSize,
        ...(file.hashed === undefined ? {} : { hashed: file.hashed }),
      };
    });
  }

  /** The line of a file of which nothing is to be read. */
  unchanged(file: SourceFile): CopiedLine {
    const parent = file.changes?.parent ?? new ChunkListBuilder().list();
    return this.#lineOf(
      file,
      patchChunks(parent, { frames: new ChunkListBuilder().list(), ranges: [] }, file.sizeBytes),
    );
  }

  addPack(facts: PackFacts): void {
    this.#facts.set(this.#heardNumber(facts.id), facts);
  }

  /**
   * Takes a worker's answer. A line, when with it a file is complete; null, when more of it is to come or it is gone;
   * `'again'`, when the file was cut off and grew while it was read, so that its ranges do not join: read it whole.
   */
  add(result: ReadResult): { readonly line: CopiedLine } | { readonly again: SourceFile } | null {
    const task = this.#open.get(result.id);
    assert(task !== undefined, `an answer to task ${result.id}, which was not asked`);
    this.#open.delete(result.id);
    const { file, range } = task;
    this.damaged.push(...result.damaged);
    file.ranges[range] = result.frames;
    for (const frame of result.frames ?? []) this.#newBytes += frame.raw;
    file.selected[range] = result.ranges ?? [];
    file.endsAt = Math.min(file.endsAt, result.endsAt ?? file.endsAt);
    file.missing -= 1;
    if (file.missing > 0) return null;
    if (file.file.whenNotWhole !== undefined && readBytesOf(file) < file.file.sizeBytes)
      throw file.file.whenNotWhole();
    if (file.file.changes !== undefined) {
      // Gone in between: its relation was dropped, and the log says so.
      if (file.ranges.includes(null)) return null;
      const frames = this.#chunksOf(file.ranges.flatMap(each => each ?? []));
      const stored = { frames, ranges: file.selected.flat() };
      return { line: this.#lineOf(file.file, patchChunks(file.file.changes.parent, stored, file.endsAt)) };
    }
    if (file.ranges.every(frames => frames === null)) return null;
    return this.#complete(file);
  }

  /** All packs, in the order in which chunks number them. */
  packs(): PackFacts[] {
    return [...this.#listed.keys()].map(number => {
      const facts = this.#facts.get(number);
      assert(facts !== undefined, `pack number ${number} was not finished`);
      return facts;
    });
  }

  #complete(open: OpenFile): { readonly line: CopiedLine } | { readonly again: SourceFile } {
    const { file } = open;
    let size = 0;
    for (const [range, frames] of open.ranges.entries()) {
      // A hole before more content: the file was truncated and extended between two reads. The log repairs pages, but
      // a manifest's chunks must join, so the file is read again in one go.
      if ((frames?.length ?? 0) > 0 && size !== range * RANGE_BYTES) return { again: file };
      for (const frame of frames ?? []) size += frame.raw;
    }
    return { line: this.#lineOf(file, this.#chunksOf(open.ranges.flatMap(each => each ?? []))) };
  }

  /** Whole frames. */
  #chunksOf(frames: readonly StoredFrame[]): ReturnType<ChunkListBuilder['list']> {
    const builder = new ChunkListBuilder(frames.length);
    for (const { packId, number, offset, stored, raw, hash } of frames)
      builder.add([raw, this.#heardNumber(packId), number, offset, stored, raw, 0, hash]);
    return builder.list();
  }

  /** `chunks` are nobody else's: their packs get the numbers of the manifest. */
  #lineOf(file: SourceFile, chunks: ReturnType<ChunkListBuilder['list']>): CopiedLine {
    let size = 0;
    const { numbers } = chunks;
    for (let at = 0; at < numbers.length; at += CHUNK_NUMBERS) {
      size += numbers[at + CHUNK_LENGTH]!;
      numbers[at + CHUNK_PACK] = this.#listedNumber(numbers[at + CHUNK_PACK]!);
    }
    this.#copiedBytes += size;
    this.#fileCount += 1;
    const common = { p: file.path, s: size, m: file.mode, chunks };
    return file.configSource === undefined
      ? { t: 'file', ...common }
      : { t: 'config', source: file.configSource, ...common };
  }

  #heardNumber(packId: string): number {
    return numberOf(this.#heard, packId);
  }

  #listedNumber(heard: number): number {
    return numberOf(this.#listed, heard);
  }
}

/** The number a map has for a key; the next one, where it has none yet. */
function numberOf<Key>(numbers: Map<Key, number>, key: Key): number {
  const known = numbers.get(key);
  if (known !== undefined) return known;
  const number = numbers.size;
  numbers.set(key, number);
  return number;
}
