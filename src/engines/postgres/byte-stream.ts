import { AppError } from '../../base/errors.ts';
import { readU32, readU64 } from './little-endian.ts';

/** Writes numbers and bytes one after the other: small numbers in few bytes, seven bits in each (LEB128). */
export class ByteWriter {
  #bytes = new Uint8Array(4096);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** What was written: valid until the next write. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  u8(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  u32(value: number): void {
    this.#reserve(4);
    const bytes = this.#bytes;
    const at = this.#length;
    bytes[at] = value;
    bytes[at + 1] = value >>> 8;
    bytes[at + 2] = value >>> 16;
    bytes[at + 3] = value >>> 24;
    this.#length = at + 4;
  }

  u64(value: bigint): void {
    this.u32(Number(value & 0xffffffffn));
    this.u32(Number(value >> 32n));
  }

  /** An integer from 0 to 2^53 - 1. */
  number(value: number): void {
    this.#reserve(8);
    let rest = value;
    // Bit operations work on 32 bits alone.
    while (rest > 0x7fffffff) {
      this.#bytes[this.#length++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    while (rest > 0x7f) {
      this.#bytes[this.#length++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#bytes[this.#length++] = rest;
  }

  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** Bytes with their length before them. */
  block(bytes: Uint8Array): void {
    this.number(bytes.length);
    this.raw(bytes);
  }

  text(text: string): void {
    this.block(Buffer.from(text, 'utf8'));
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + bytes));
    larger.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = larger;
  }
}

/** Reads what a {@link ByteWriter} wrote, and never beyond its end. Every read throws CORRUPT where nothing is left. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  #at: number;

  constructor(bytes: Uint8Array, at = 0) {
    this.#bytes = bytes;
    this.#at = at;
  }

  get at(): number {
    return this.#at;
  }

  get remainingBytes(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#bytes[this.#take(1)]!;
  }

  u32(): number {
    return readU32(this.#bytes, this.#take(4));
  }

  u64(): bigint {
    return readU64(this.#bytes, this.#take(8));
  }

  number(): number {
    const bytes = this.#bytes;
    let at = this.#at;
    let byte = bytes[at++];
    let value = 0;
    let scale = 1;
    while (byte !== undefined && byte >= 0x80 && scale < 2 ** 49) {
      value += (byte & 0x7f) * scale;
      scale *= 0x80;
      byte = bytes[at++];
    }
    value += (byte ?? 0) * scale;
    if (byte === undefined || byte >= 0x80 || value > Number.MAX_SAFE_INTEGER) throw damaged();
    this.#at = at;
    return value;
  }

  /** A count of items that take at least `itemBytes` each: no more than what is left can hold. */
  count(itemBytes = 1): number {
    const count = this.number();
    if (count * itemBytes > this.remainingBytes) throw damaged();
    return count;
  }

  /** A view of the next bytes. */
  take(bytes: number): Uint8Array {
    const at = this.#take(bytes);
    return this.#bytes.subarray(at, at + bytes);
  }

  block(): Uint8Array {
    return this.take(this.count());
  }

  text(): string {
    return new TextDecoder().decode(this.block());
  }

  #take(bytes: number): number {
    const at = this.#at;
    if (bytes > this.#bytes.length - at) throw damaged();
    this.#at = at + bytes;
    return at;
  }
}

function damaged(): AppError {
  return new AppError('CORRUPT', 'unable to read the summary of a log segment: it ends before its content');
}
