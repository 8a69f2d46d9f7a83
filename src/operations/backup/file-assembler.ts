import { assert } from '../../base/errors.ts';
import type { Chunk, DamagedPage, ManifestLine, PackFacts } from '../../repository/manifest.ts';
import type { StoredFrame } from '../../repository/pack-writer.ts';
import type { ReadResult, ReadTask } from './backup-protocol.ts';
import { type Piece, patchPieces } from './file-pieces.ts';
import type { PageSelection } from './page-selection.ts';
import type { Ranges } from './ranges.ts';

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
}

export interface FileChanges {
  readonly parent: readonly Piece[];
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
  readonly selected: (readonly Ranges[])[];
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

/** Cuts files into tasks for the workers, and makes manifest lines of the answers. */
export class FileAssembler {
  readonly damaged: DamagedPage[] = [];
  readonly #blockSize: number;
  readonly #open = new Map<number, { readonly file: OpenFile; readonly range: number }>();
  readonly #packNumbers = new Map<string, number>();
  readonly #packFacts = new Map<string, PackFacts>();
  #nextTask = 0;
  #copiedBytes = 0;
  #newBytes = 0;
  #fileCount = 0;

  constructor(blockSize: number) {
    this.#blockSize = blockSize;
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
  unchanged(file: SourceFile): ManifestLine {
    return this.#lineOf(file, patchPieces(file.changes?.parent ?? [], [], file.sizeBytes));
  }

  addPack(facts: PackFacts): void {
    this.#packFacts.set(facts.id, facts);
  }

  /**
   * Takes a worker's answer. A line, when with it a file is complete; null, when more of it is to come or it is gone;
   * `'again'`, when the file was cut off and grew while it was read, so that its ranges do not join: read it whole.
   */
  add(result: ReadResult): { readonly line: ManifestLine } | { readonly again: SourceFile } | null {
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
    if (file.file.changes !== undefined) {
      // Gone in between: its relation was dropped, and the log says so.
      if (file.ranges.includes(null)) return null;
      const stored = file.ranges.flatMap((frames, part) =>
        (frames ?? []).map((frame, index) => ({ frame, ranges: file.selected[part]?.[index] ?? [] })),
      );
      const pieces = patchPieces(file.file.changes.parent, stored, file.endsAt);
      return { line: this.#lineOf(file.file, pieces) };
    }
    if (file.ranges.every(frames => frames === null)) return null;
    return this.#complete(file);
  }

  /** All packs, in the order in which chunks number them. */
  packs(): PackFacts[] {
    return [...this.#packNumbers.keys()].map(id => {
      const facts = this.#packFacts.get(id);
      assert(facts !== undefined, `pack ${id} was not finished`);
      return facts;
    });
  }

  #complete(open: OpenFile): { readonly line: ManifestLine } | { readonly again: SourceFile } {
    const { file } = open;
    const pieces: Piece[] = [];
    let size = 0;
    for (const [range, frames] of open.ranges.entries()) {
      // A hole before more content: the file was truncated and extended between two reads. The log repairs pages, but
      // a manifest's chunks must join, so the file is read again in one go.
      if ((frames?.length ?? 0) > 0 && size !== range * RANGE_BYTES) return { again: file };
      for (const frame of frames ?? []) {
        pieces.push({ frame, start: 0, length: frame.raw });
        size += frame.raw;
      }
    }
    return { line: this.#lineOf(file, pieces) };
  }

  #lineOf(file: SourceFile, pieces: readonly Piece[]): ManifestLine {
    let size = 0;
    const chunks = pieces.map(({ frame, start, length }): Chunk => {
      size += length;
      const { number, offset, stored, raw, hash } = frame;
      return [length, this.#packNumber(frame.packId), number, offset, stored, raw, start, hash];
    });
    this.#copiedBytes += size;
    this.#fileCount += 1;
    const common = { p: file.path, s: size, m: file.mode, c: chunks };
    return file.configSource === undefined
      ? { t: 'file', ...common }
      : { t: 'config', source: file.configSource, ...common };
  }

  #packNumber(packId: string): number {
    const known = this.#packNumbers.get(packId);
    if (known !== undefined) return known;
    const number = this.#packNumbers.size;
    this.#packNumbers.set(packId, number);
    return number;
  }
}
