import { createHash } from 'node:crypto';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AppError, fileError } from '../base/errors.ts';
import type { CallOptions } from '../storage/storage.ts';
import { encodeChunks } from './chunk-text.ts';
import { compressInBackground, FRAME_BODY_BYTES } from './compression.ts';
import { checkRestorePath, manifestPath } from './layout.ts';
import type { BackupFacts, PackFacts } from './manifest.ts';
import type { PackedLine } from './manifest-line.ts';
import type { Repository } from './repository.ts';
import { SealedWriter } from './sealed-writer.ts';

const LEVEL = 3;
const END_OF_FILE = ']}';

/**
 * Writes a manifest while the backup runs: lines go into sealed frames, these into a local spool file, so that memory
 * stays bounded whatever the number of files; `commit` puts the object, and with that the backup exists.
 */
export class ManifestWriter {
  readonly #repository: Repository;
  readonly #path: string;
  readonly #spool: FileHandle;
  readonly #hash = createHash('sha256');
  readonly #sealed: SealedWriter;
  readonly #pending = Buffer.allocUnsafe(FRAME_BODY_BYTES);
  #pendingBytes = 0;
  #lines = 0;

  private constructor(repository: Repository, path: string, spool: FileHandle) {
    this.#repository = repository;
    this.#path = path;
    this.#spool = spool;
    this.#sealed = new SealedWriter({ kind: 'manifest', path, keyring: repository.keyring, level: LEVEL });
  }

  static async create(
    repository: Repository,
    backup: { readonly instance: string; readonly id: string },
  ): Promise<ManifestWriter> {
    const path = manifestPath(backup.instance, backup.id);
    return new ManifestWriter(repository, path, await openSpool());
  }

  get lines(): number {
    return this.#lines;
  }

  /** @throws CORRUPT no reader would take this path */
  async add(line: PackedLine): Promise<void> {
    checkRestorePath(line.p);
    this.#lines += 1;
    if (line.t === 'dir') return await this.#append(Buffer.from(`${JSON.stringify(line)}\n`));
    const { chunks, ...rest } = line;
    const text = JSON.stringify({ ...rest, c: [] });
    // The members of a line keep their order, so what ends it are the brackets of its chunks.
    await this.#append(Buffer.from(text.slice(0, -END_OF_FILE.length)));
    for (const piece of encodeChunks(chunks)) await this.#append(piece);
    await this.#append(Buffer.from(`${END_OF_FILE}\n`));
  }

  async #append(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const room = FRAME_BODY_BYTES - this.#pendingBytes;
      const copied = bytes.copy(
        this.#pending,
        this.#pendingBytes,
        at,
        at + Math.min(room, bytes.length - at),
      );
      at += copied;
      this.#pendingBytes += copied;
      if (this.#pendingBytes === FRAME_BODY_BYTES) await this.#flushFrame();
    }
  }

  /**
   * Commits the backup: once this resolves it is listed, durable and complete.
   *
   * @returns the hex SHA-256 of the manifest object, and its size
   */
  async commit(
    backup: BackupFacts,
    packs: readonly PackFacts[],
    options: CallOptions = {},
  ): Promise<{ readonly sha256: string; readonly sizeBytes: number }> {
    if (this.#pendingBytes > 0) await this.#flushFrame();
    this.#sealed.finish({ backup, packs, lines: this.#lines });
    await this.#spill();
    const sizeBytes = this.#sealed.sizeBytes;
    const body = { sizeBytes, open: () => readSpool(this.#spool) };
    if ((await this.#repository.storage.put(this.#path, body, options)) === 'exists') {
      throw new AppError('EXISTS', `unable to commit: there is a backup '${backup.id}' already`, {
        hint: 'Run the command again: a new id is chosen.',
      });
    }
    return { sha256: this.#hash.digest('hex'), sizeBytes };
  }

  /** Gives the spool file's space back; to be called in every case. */
  async close(): Promise<void> {
    await this.#spool.close().catch(() => undefined);
  }

  async #flushFrame(): Promise<void> {
    const body = this.#pending.subarray(0, this.#pendingBytes);
    // Beside what this thread goes on with: it hands out the work of a backup, and waits for nobody.
    this.#sealed.addPacked(await compressInBackground(body, LEVEL), body.length);
    this.#pendingBytes = 0;
    await this.#spill();
  }

  async #spill(): Promise<void> {
    const bytes = this.#sealed.take();
    this.#hash.update(bytes);
    try {
      for (let at = 0; at < bytes.length; ) at += (await this.#spool.write(bytes, at)).bytesWritten;
    } catch (error) {
      throw fileError('write', tmpdir(), error);
    }
  }
}

/** A file whose name is gone at once: whatever ends this program, nothing of it is left behind. */
async function openSpool(): Promise<FileHandle> {
  try {
    const directory = await mkdtemp(join(tmpdir(), 'aishell-manifest-'));
    try {
      return await open(join(directory, 'spool'), 'wx+', 0o600);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  } catch (error) {
    throw fileError('create a file in', tmpdir(), error);
  }
}

/** From its beginning, as often as it is asked for: a storage that tries again reads it again. */
async function* readSpool(file: FileHandle): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0; ; ) {
    const { buffer, bytesRead } = await file.read(new Uint8Array(FRAME_BODY_BYTES), 0, FRAME_BODY_BYTES, at);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
    at += bytesRead;
  }
}
