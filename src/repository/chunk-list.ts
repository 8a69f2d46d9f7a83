import type { Chunk } from './manifest.ts';

/** Where the numbers of a chunk stand, in the order of {@link Chunk}. */
export const CHUNK_LENGTH = 0;
export const CHUNK_PACK = 1;
export const CHUNK_FRAME = 2;
export const CHUNK_RAW = 5;
export const CHUNK_START = 6;
/** How many there are of each; its hash follows. */
export const CHUNK_NUMBERS = 7;
/** 16 bytes of SHA-256 in base64url. */
export const HASH_CHARACTERS = 22;

/**
 * The chunks of a file without an object for each: files have a hundred thousand of them, and as arrays of their own these
 * would take ten times the memory, and the garbage collector as long as the rest of a small incremental backup.
 */
export interface ChunkList {
  /** {@link CHUNK_NUMBERS} for each chunk. */
  readonly numbers: Uint32Array;
  /** One for each chunk; null: all of them are empty. */
  readonly hashes: readonly string[] | null;
}

export function chunkCount(list: ChunkList): number {
  return list.numbers.length / CHUNK_NUMBERS;
}

export function chunkAt({ numbers, hashes }: ChunkList, index: number): Chunk {
  const at = index * CHUNK_NUMBERS;
  return [
    numbers[at]!,
    numbers[at + 1]!,
    numbers[at + 2]!,
    numbers[at + 3]!,
    numbers[at + 4]!,
    numbers[at + 5]!,
    numbers[at + 6]!,
    hashes?.[index] ?? '',
  ];
}

export function chunksOf(list: ChunkList): Chunk[] {
  return Array.from({ length: chunkCount(list) }, (_, index) => chunkAt(list, index));
}

/** Null when one of them is no chunk: numbers are below 2^32, as a pack is some MiB and a frame at most one. */
export function chunkListOf(chunks: readonly Chunk[]): ChunkList | null {
  const builder = new ChunkListBuilder(chunks.length);
  for (const chunk of chunks) {
    if (!isChunk(chunk)) return null;
    builder.add(chunk);
  }
  return builder.list();
}

function isChunk(chunk: readonly unknown[]): boolean {
  const hash = chunk[CHUNK_NUMBERS];
  const numbers = chunk.slice(0, CHUNK_NUMBERS);
  return (
    numbers.length === CHUNK_NUMBERS &&
    numbers.every(value => typeof value === 'number' && value >>> 0 === value) &&
    typeof hash === 'string' &&
    HASH.test(hash)
  );
}

const HASH = /^[\w-]{0,22}$/;

/** Puts a list together, chunk by chunk. */
export class ChunkListBuilder {
  #numbers: Uint32Array<ArrayBuffer>;
  #hashes: string[] | null = null;
  #count = 0;

  constructor(capacity = 64) {
    this.#numbers = new Uint32Array(capacity * CHUNK_NUMBERS);
  }

  add(chunk: Chunk): void {
    const at = this.#room();
    for (let index = 0; index < CHUNK_NUMBERS; index += 1) this.#numbers[at + index] = Number(chunk[index]);
    this.#addHash(chunk[CHUNK_NUMBERS]);
  }

  /** Adds `length` bytes of the frame of a chunk of another list, from its byte `start` on. */
  addPart(from: ChunkList, index: number, part: { readonly start: number; readonly length: number }): void {
    const at = this.#room();
    const source = index * CHUNK_NUMBERS;
    for (let offset = 0; offset < CHUNK_NUMBERS; offset += 1)
      this.#numbers[at + offset] = from.numbers[source + offset]!;
    this.#numbers[at + CHUNK_LENGTH] = part.length;
    this.#numbers[at + CHUNK_START] = part.start;
    this.#addHash(from.hashes?.[index] ?? '');
  }

  /** Makes the last chunk longer, where the same frame goes on with that part; false where it does not. */
  goOn(from: ChunkList, index: number, part: { readonly start: number; readonly length: number }): boolean {
    if (this.#count === 0) return false;
    const numbers = this.#numbers;
    const last = (this.#count - 1) * CHUNK_NUMBERS;
    const source = index * CHUNK_NUMBERS;
    const isNext =
      numbers[last + CHUNK_FRAME] === from.numbers[source + CHUNK_FRAME] &&
      numbers[last + CHUNK_PACK] === from.numbers[source + CHUNK_PACK] &&
      numbers[last + CHUNK_START]! + numbers[last + CHUNK_LENGTH]! === part.start;
    if (isNext) numbers[last + CHUNK_LENGTH] = numbers[last + CHUNK_LENGTH]! + part.length;
    return isNext;
  }

  /** What was added; nothing can be added after it. */
  list(): ChunkList & { readonly numbers: Uint32Array<ArrayBuffer> } {
    const used = this.#count * CHUNK_NUMBERS;
    const numbers = used === this.#numbers.length ? this.#numbers : this.#numbers.slice(0, used);
    return { numbers, hashes: this.#hashes };
  }

  #room(): number {
    const at = this.#count * CHUNK_NUMBERS;
    if (at === this.#numbers.length) {
      const larger = new Uint32Array(Math.max(64 * CHUNK_NUMBERS, 2 * at));
      larger.set(this.#numbers);
      this.#numbers = larger;
    }
    this.#count += 1;
    return at;
  }

  #addHash(hash: string): void {
    if (hash === '' && this.#hashes === null) return;
    this.#hashes ??= new Array<string>(this.#count - 1).fill('');
    this.#hashes.push(hash);
  }
}

/** The different frames of a list. */
export interface DistinctFrames {
  readonly count: number;
  /** By chunk: which of them it is a part of. */
  readonly of: Uint32Array;
  /** By frame: the first chunk that is a part of it. */
  readonly first: Uint32Array;
}

const FREE = 0xffff_ffff;

export function distinctFrames({ numbers }: ChunkList): DistinctFrames {
  const chunks = numbers.length / CHUNK_NUMBERS;
  const of = new Uint32Array(chunks);
  const first = new Uint32Array(chunks);
  // A hash table of chunks by their frames, at most half full.
  const size = 2 ** Math.ceil(Math.log2(2 * chunks + 1));
  const table = new Uint32Array(size).fill(FREE);
  let count = 0;
  for (let index = 0; index < chunks; index += 1) {
    const pack = numbers[index * CHUNK_NUMBERS + CHUNK_PACK]!;
    const frame = numbers[index * CHUNK_NUMBERS + CHUNK_FRAME]!;
    let slot = (Math.imul(pack, 0x9e3779b1) ^ Math.imul(frame, 0x85ebca6b)) >>> 0;
    slot = (slot ^ (slot >>> 15)) & (size - 1);
    for (; ; slot = (slot + 1) & (size - 1)) {
      const known = table[slot]!;
      if (known === FREE) {
        table[slot] = count;
        first[count] = index;
        of[index] = count;
        count += 1;
        break;
      }
      const at = first[known]! * CHUNK_NUMBERS;
      if (numbers[at + CHUNK_FRAME] === frame && numbers[at + CHUNK_PACK] === pack) {
        of[index] = known;
        break;
      }
    }
  }
  return { count, of, first: first.subarray(0, count) };
}
