import { releaseMemory } from '../base/release-memory.ts';
import type { Keyring } from '../crypto/keyring.ts';
import {
  encodeHeader,
  FRAME_OVERHEAD_BYTES,
  FrameCipher,
  HEADER_BYTES,
  newHeader,
  type ObjectKind,
} from '../crypto/sealed-frame.ts';
import { type CompressionLevel, type Content, compress, type PackedBody } from './compression.ts';

export const TRAILER_BYTES = 12;
export const TRAILER_MAGIC = Buffer.from([0x41, 0x49, 0x53, 0x48, 0x45, 0x4e, 0x44, 0x01]);
const FOOTER_LEVEL = 3;

/** A frame as the footer lists it; what stands behind the first two members depends on the object's kind. */
export type FrameEntry = readonly [stored: number, raw: number, ...rest: unknown[]];

export interface WrittenFrame {
  readonly number: number;
  readonly offset: number;
  readonly stored: number;
}

/**
 * Writes one sealed object into memory (docs/format.md, "Sealed objects"). `take` hands over what was written so far, so
 * that a manifest can go to disk piece by piece; a pack is taken once, at its end.
 */
export class SealedWriter {
  readonly objectId: Uint8Array;
  readonly #cipher: FrameCipher;
  readonly #entries: FrameEntry[] = [];
  readonly #level: CompressionLevel;
  readonly #content: Content;
  #buffer: Uint8Array;
  #length: number;
  #taken = 0;

  constructor(options: {
    readonly kind: ObjectKind;
    readonly path: string | ((objectId: Uint8Array) => string);
    readonly keyring: Keyring;
    readonly level: CompressionLevel;
    /** Reused between objects where given; grows when it must. */
    readonly buffer?: Uint8Array;
  }) {
    const header = newHeader(options.kind, options.keyring.current);
    const path = typeof options.path === 'string' ? options.path : options.path(header.objectId);
    this.objectId = header.objectId;
    this.#cipher = new FrameCipher(options.keyring.key(header.generation), header, path);
    this.#level = options.level;
    this.#content = options.kind === 'log' ? 'log' : 'files';
    this.#buffer = options.buffer ?? new Uint8Array(64 * 1024);
    this.#buffer.set(encodeHeader(header));
    this.#length = HEADER_BYTES;
  }

  get frameCount(): number {
    return this.#entries.length;
  }

  /** Bytes of the object so far, those already taken included. */
  get sizeBytes(): number {
    return this.#taken + this.#length;
  }

  /** Compresses and seals a body of at most 1 MiB; `rest` goes into the footer behind the lengths. */
  addFrame(body: Uint8Array, rest: readonly unknown[] = []): WrittenFrame {
    const packed = compress(body, this.#level, this.#content);
    const frame = this.addPacked(packed, body.length, rest);
    // What does not get smaller is the caller's own.
    if (packed.body.buffer !== body.buffer) releaseMemory(packed.body);
    return frame;
  }

  /** The same for a body that was compressed elsewhere; `rawBytes` is its length before. */
  addPacked(packed: PackedBody, rawBytes: number, rest: readonly unknown[] = []): WrittenFrame {
    this.#reserve(packed.body.length + FRAME_OVERHEAD_BYTES);
    const number = this.#entries.length;
    const offset = this.sizeBytes;
    const stored = this.#cipher.sealInto(this.#buffer, this.#length, {
      number,
      codec: packed.codec,
      body: packed.body,
    });
    this.#length += stored;
    this.#entries.push([stored, rawBytes, ...rest]);
    return { number, offset, stored };
  }

  /** Seals the footer, `facts` beside `frames`, and the trailer. Nothing can be added after it. */
  finish(facts: Readonly<Record<string, unknown>>): void {
    const json = Buffer.from(JSON.stringify({ frames: this.#entries, ...facts }), 'utf8');
    const packed = compress(json, FOOTER_LEVEL);
    this.#reserve(packed.body.length + FRAME_OVERHEAD_BYTES + TRAILER_BYTES);
    const stored = this.#cipher.sealInto(this.#buffer, this.#length, {
      number: 'footer',
      codec: packed.codec,
      body: packed.body,
    });
    this.#length += stored;
    new DataView(this.#buffer.buffer, this.#buffer.byteOffset).setUint32(this.#length, stored, true);
    this.#buffer.set(TRAILER_MAGIC, this.#length + 4);
    this.#length += TRAILER_BYTES;
  }

  /** The bytes written since the last take: a view that is valid until the next write. */
  take(): Uint8Array {
    const bytes = this.#buffer.subarray(0, this.#length);
    this.#taken += this.#length;
    this.#length = 0;
    return bytes;
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const larger = new Uint8Array(Math.max(this.#buffer.length * 2, this.#length + bytes));
    larger.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = larger;
  }
}
