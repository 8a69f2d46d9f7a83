/** Line pointers of an 8 KiB page: at most 291. @source access/htup_details.h, MaxHeapTuplesPerPage */
const BYTES_PER_BLOCK = 37;
/** Pages are told of in groups of so many. */
export const BLOCKS_PER_GROUP = 32;

/** A place of a row version: its page, and its line pointer, from 1 on. */
export interface RowPosition {
  readonly block: number;
  readonly offset: number;
}

/**
 * Positions of rows in one file of a table, a bit for each line pointer: about a byte for every row of a table that is
 * touched as a whole, and some 1.2 KB for one that is alone in its 256 KiB.
 */
export class RowPositions {
  readonly #chunks = new Map<number, Uint8Array>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(block: number, offset: number): void {
    const number = Math.floor(block / BLOCKS_PER_GROUP);
    let chunk = this.#chunks.get(number);
    if (chunk === undefined) {
      chunk = new Uint8Array(BLOCKS_PER_GROUP * BYTES_PER_BLOCK);
      this.#chunks.set(number, chunk);
    }
    const at = (block % BLOCKS_PER_GROUP) * BYTES_PER_BLOCK + (offset >> 3);
    const bit = 1 << (offset & 7);
    const byte = chunk[at] ?? 0;
    if (byte & bit) return;
    chunk[at] = byte | bit;
    this.#size += 1;
  }

  has(block: number, offset: number): boolean {
    const chunk = this.#chunks.get(Math.floor(block / BLOCKS_PER_GROUP));
    const at = (block % BLOCKS_PER_GROUP) * BYTES_PER_BLOCK + (offset >> 3);
    return chunk !== undefined && ((chunk[at] ?? 0) & (1 << (offset & 7))) !== 0;
  }

  /** Numbers of the groups of {@link BLOCKS_PER_GROUP} pages that hold all of them; some may hold none any more. */
  get groups(): Iterable<number> {
    return this.#chunks.keys();
  }

  /** Takes out what is in `other` too, and says how many that were. */
  subtract(other: RowPositions): number {
    const before = this.#size;
    for (const [number, chunk] of this.#chunks) {
      const taken = other.#chunks.get(number);
      if (taken === undefined) continue;
      for (let at = 0; at < chunk.length; at += 1) {
        const both = (chunk[at] ?? 0) & (taken[at] ?? 0);
        if (both === 0) continue;
        chunk[at] = (chunk[at] ?? 0) & ~both;
        this.#size -= bits(both);
      }
    }
    return before - this.#size;
  }

  /** In the order of the file, at most `limit` at a time. */
  *batches(limit: number): Generator<readonly RowPosition[], void, undefined> {
    let batch: RowPosition[] = [];
    for (const number of [...this.#chunks.keys()].sort((a, b) => a - b)) {
      const chunk = this.#chunks.get(number);
      for (let at = 0; chunk !== undefined && at < chunk.length; at += 1) {
        const byte = chunk[at] ?? 0;
        for (let bit = 0; byte >> bit !== 0; bit += 1) {
          if (((byte >> bit) & 1) === 0) continue;
          const block = number * BLOCKS_PER_GROUP + Math.floor(at / BYTES_PER_BLOCK);
          batch.push({ block, offset: (at % BYTES_PER_BLOCK) * 8 + bit });
          if (batch.length < limit) continue;
          yield batch;
          batch = [];
        }
      }
    }
    if (batch.length > 0) yield batch;
  }
}

function bits(byte: number): number {
  let count = 0;
  for (let rest = byte; rest !== 0; rest &= rest - 1) count += 1;
  return count;
}
