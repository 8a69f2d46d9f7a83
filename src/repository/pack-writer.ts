import { createHash, hash } from 'node:crypto';
import { MIB } from '../base/sizes.ts';
import type { Keyring } from '../crypto/keyring.ts';
import type { CompressionLevel } from './compression.ts';
import { packPath } from './layout.ts';
import type { PackFacts } from './manifest.ts';
import { SealedWriter } from './sealed-writer.ts';

/** When a pack is closed. Every thread holds two: 32 MiB each took a backup with two threads to 424 MiB of memory, 16 MiB to 300. */
export const PACK_BYTES = 16 * MIB;
/** A pack's buffer never has to grow: the last frame, the footer of some thousand small files and the trailer fit beside. */
export const PACK_BUFFER_BYTES = PACK_BYTES + 4 * MIB;

export interface PackTarget {
  readonly instance: string;
  readonly backupId: string;
  readonly keyring: Keyring;
  readonly level: CompressionLevel;
}

export interface StoredFrame {
  readonly packId: string;
  readonly number: number;
  readonly offset: number;
  readonly stored: number;
  readonly raw: number;
  readonly hash: string;
}

export interface FinishedPack {
  readonly facts: PackFacts;
  readonly path: string;
  /** A view of the buffer given to the constructor: put it before the buffer is used again. */
  readonly bytes: Uint8Array;
}

/** Whether a body is the one a frame was made of, as far as that was written down. */
export function matchesHash(body: Uint8Array, digest: string): boolean {
  return digest === '' || bodyHash(body) === digest;
}

/** The hash of a frame's body: the first 16 bytes of SHA-256, base64url. */
function bodyHash(body: Uint8Array): string {
  return hash('sha256', body, 'buffer').subarray(0, 16).toString('base64url');
}

/** Collects sealed frames of files into one pack. */
export class PackWriter {
  readonly #target: PackTarget;
  readonly #sealed: SealedWriter;
  readonly #files: string[] = [];
  readonly id: string;

  constructor(target: PackTarget, buffer: Uint8Array) {
    this.#target = target;
    this.#sealed = new SealedWriter({
      kind: 'pack',
      keyring: target.keyring,
      level: target.level,
      buffer,
      path: objectId => packPath(target.instance, target.backupId, Buffer.from(objectId).toString('hex')),
    });
    this.id = Buffer.from(this.#sealed.objectId).toString('hex');
  }

  get isEmpty(): boolean {
    return this.#sealed.frameCount === 0;
  }

  get isFull(): boolean {
    return this.#sealed.sizeBytes >= PACK_BYTES;
  }

  /**
   * Adds up to 1 MiB of one file; `runs` says where in the file the body belongs: offset, length, offset, length, …
   * `unhashed` leaves the body's hash out: for pages that carry checksums of their own. Sealing and zstd's checksum still
   * find every change, and hashing is a tenth of a backup's work.
   */
  add(path: string, runs: readonly number[], body: Uint8Array, unhashed?: 'unhashed'): StoredFrame {
    if (this.#files.at(-1) !== path) this.#files.push(path);
    const digest = unhashed === undefined ? bodyHash(body) : '';
    const frame = this.#sealed.addFrame(body, [this.#files.length - 1, runs, digest]);
    return {
      packId: this.id,
      number: frame.number,
      offset: frame.offset,
      stored: frame.stored,
      raw: body.length,
      hash: digest,
    };
  }

  finish(): FinishedPack {
    const { instance, backupId, keyring } = this.#target;
    this.#sealed.finish({ files: this.#files, backup: backupId, instance });
    const bytes = this.#sealed.take();
    return {
      path: packPath(instance, backupId, this.id),
      bytes,
      facts: {
        id: this.id,
        backup: backupId,
        generation: keyring.current,
        sizeBytes: bytes.length,
        sha256: createHash('sha256').update(bytes).digest('hex'),
      },
    };
  }
}
