import { open } from 'node:fs/promises';
import { systemCode } from '../../base/errors.ts';
import { type CompressionLevel, compress, FRAME_BODY_BYTES } from '../../repository/compression.ts';

/** What a backup is going to cost, from a sample that was really read and compressed. */
export interface BackupEstimate {
  readonly storedBytes: number;
  readonly secondsLow: number;
  readonly secondsHigh: number;
}

const SAMPLES = 12;

/** Keeps some of the things it is shown, each with the chance of its size: no list of all is held. */
export class Reservoir<T> {
  readonly items: T[] = [];
  readonly #count: number;
  #seenBytes = 0;

  constructor(count: number) {
    this.#count = count;
  }

  get seenBytes(): number {
    return this.#seenBytes;
  }

  add(item: T, bytes: number): void {
    if (bytes === 0) return;
    this.#seenBytes += bytes;
    for (let slot = 0; slot < this.#count; slot += 1)
      if (Math.random() * this.#seenBytes < bytes) this.items[slot] = item;
  }
}

/** Files seen while the data directory was walked: every one has the chance of its size to be sampled. */
export class SampleCollector {
  readonly #samples = new Reservoir<{ readonly path: string; readonly sizeBytes: number }>(SAMPLES);

  get seenBytes(): number {
    return this.#samples.seenBytes;
  }

  add(path: string, sizeBytes: number): void {
    this.#samples.add({ path, sizeBytes }, sizeBytes);
  }

  /** Reads and compresses the samples (some 50 ms), and projects. */
  async estimate(level: CompressionLevel, workers: number): Promise<BackupEstimate> {
    let raw = 0;
    let stored = 0;
    const startedAt = performance.now();
    const buffer = new Uint8Array(FRAME_BODY_BYTES);
    for (const { path, sizeBytes } of this.#samples.items) {
      const room = Math.max(0, sizeBytes - FRAME_BODY_BYTES);
      const offset = Math.floor((Math.random() * room) / FRAME_BODY_BYTES) * FRAME_BODY_BYTES;
      const body = await readSample({ path, offset, length: Math.min(FRAME_BODY_BYTES, sizeBytes) }, buffer);
      raw += body.length;
      stored += compress(body, level).body.length;
    }
    if (raw === 0) return { storedBytes: 0, secondsLow: 0, secondsHigh: 1 };
    const secondsPerByte = (performance.now() - startedAt) / 1000 / raw;
    const seconds = (this.seenBytes * secondsPerByte) / workers;
    // Below: nothing but reading and compressing. Above: the storage and the server's own work take their share.
    return {
      storedBytes: Math.round((this.seenBytes * stored) / raw),
      secondsLow: seconds * 0.9,
      secondsHigh: seconds * 1.8 + 1,
    };
  }
}

/** A part of a file that may be gone by now; then nothing. */
export async function readSample(
  sample: { readonly path: string; readonly offset: number; readonly length: number },
  buffer: Uint8Array,
): Promise<Uint8Array> {
  try {
    const file = await open(sample.path, 'r');
    try {
      const { bytesRead } = await file.read(buffer, 0, sample.length, sample.offset);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (['ENOENT', 'EACCES'].includes(systemCode(error))) return buffer.subarray(0, 0);
    throw error;
  }
}
