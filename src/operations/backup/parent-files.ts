import { hash } from 'node:crypto';
import { readSync } from 'node:fs';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileError } from '../../base/errors.ts';
import { type PackedFileLine, parseLine, parseLineHead } from '../../repository/manifest-line.ts';
import { lineBytes, type Manifest } from '../../repository/manifest-reader.ts';
import type { Repository } from '../../repository/repository.ts';

/** The files of a parent's manifest, by path: it lists them in the order in which its threads finished them. */
export interface ParentFiles {
  /** Null when the parent has no such file. */
  find(path: string): PackedFileLine | null;
  close(): Promise<void>;
}

const WRITE_BYTES = 1024 * 1024;

/**
 * Reads a manifest once and keeps its files at hand: the lines in a local file whose name is gone at once, in memory 16
 * bytes for each, so that a database of a million files takes 16 MB.
 *
 * @throws CORRUPT when the manifest is damaged
 */
export async function openParentFiles(
  repository: Repository,
  manifest: Manifest,
  signal: AbortSignal,
): Promise<ParentFiles> {
  const spool = await openSpool();
  try {
    const index = new PathIndex();
    let pending: Buffer[] = [];
    let pendingBytes = 0;
    let writtenBytes = 0;
    const flush = async (): Promise<void> => {
      await writeFully(spool, Buffer.concat(pending), writtenBytes);
      writtenBytes += pendingBytes;
      pending = [];
      pendingBytes = 0;
    };
    for await (const line of lineBytes(repository, manifest, { signal })) {
      const { t, p } = parseLineHead(line, manifest);
      if (t !== 'file') continue;
      index.add(p, writtenBytes + pendingBytes);
      pending.push(line);
      pendingBytes += line.length;
      if (pendingBytes >= WRITE_BYTES) await flush();
    }
    await flush();
    const sizeBytes = writtenBytes;
    const ends = index.finish(sizeBytes);
    return {
      find(path) {
        for (const [offset, end] of ends(path)) {
          const line = parseLine(readFully(spool, offset, end - offset), manifest);
          if (line.t === 'file' && line.p === path) return line;
        }
        return null;
      },
      close: () => spool.close(),
    };
  } catch (error) {
    await spool.close();
    throw error;
  }
}

/** Where the lines of paths begin, under 52 bits of each path's hash. */
class PathIndex {
  #keys = new Float64Array(1024);
  #offsets = new Float64Array(1024);
  #count = 0;

  add(path: string, offset: number): void {
    if (this.#count === this.#keys.length) {
      this.#keys = grown(this.#keys);
      this.#offsets = grown(this.#offsets);
    }
    this.#keys[this.#count] = keyOf(path);
    this.#offsets[this.#count] = offset;
    this.#count += 1;
  }

  /** @returns what finds the ranges of the lines whose path may be the one asked for */
  finish(sizeBytes: number): (path: string) => Generator<readonly [from: number, to: number]> {
    const count = this.#count;
    const order = new Uint32Array(count).map((_, index) => index);
    order.sort((a, b) => this.#keys[a]! - this.#keys[b]!);
    const keys = Float64Array.from(order, index => this.#keys[index]!);
    const offsets = this.#offsets;
    return function* candidates(path) {
      const key = keyOf(path);
      for (let at = lowerBound(keys, key); keys[at] === key; at += 1) {
        const line = order[at]!;
        yield [offsets[line]!, line + 1 < count ? offsets[line + 1]! : sizeBytes];
      }
    };
  }
}

/** The first index whose value is not below `value`. */
export function lowerBound(sorted: ArrayLike<number>, value: number): number {
  let low = 0;
  for (let high = sorted.length; low < high; ) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function keyOf(path: string): number {
  const digest = hash('sha256', path, 'buffer');
  return digest.readUIntBE(0, 6) * 16 + (digest[6]! >> 4);
}

function grown(array: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(array.length * 2);
  larger.set(array);
  return larger;
}

async function openSpool(): Promise<FileHandle> {
  try {
    const directory = await mkdtemp(join(tmpdir(), 'aishell-parent-'));
    try {
      return await open(join(directory, 'spool'), 'wx+', 0o600);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  } catch (error) {
    throw fileError('create a file in', tmpdir(), error);
  }
}

async function writeFully(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  try {
    for (let at = 0; at < bytes.length; )
      at += (await file.write(bytes, at, bytes.length - at, position + at)).bytesWritten;
  } catch (error) {
    throw fileError('write', tmpdir(), error);
  }
}

/** From the page cache, where it was just written: waiting for another thread to do that would take ten times as long. */
function readFully(file: FileHandle, position: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  try {
    for (let at = 0; at < length; ) {
      const got = readSync(file.fd, bytes, at, length - at, position + at);
      if (got === 0) throw new Error('it got shorter');
      at += got;
    }
  } catch (error) {
    throw fileError('read', tmpdir(), error);
  }
  return bytes;
}
