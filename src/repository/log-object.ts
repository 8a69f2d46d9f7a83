import { createHash } from 'node:crypto';
import { AppError } from '../base/errors.ts';
import type { CallOptions } from '../storage/storage.ts';
import { type CompressionLevel, compressInBackground, FRAME_BODY_BYTES } from './compression.ts';
import { logPath } from './layout.ts';
import type { Repository } from './repository.ts';
import { openSealed } from './sealed-reader.ts';
import { SealedWriter } from './sealed-writer.ts';

/** What a log file is called, whose it is, and how it is stored. */
export interface LogObjectFacts {
  readonly instance: string;
  /** Decimal. */
  readonly systemIdentifier: string;
  readonly name: string;
  readonly level: CompressionLevel;
  /** Used to put the object together, where one is kept for many files; it grows when it must. */
  readonly buffer?: Uint8Array;
}

/** The object of a log file, made of its bytes in their order, then put. */
export class LogObject {
  readonly #repository: Repository;
  readonly #facts: LogObjectFacts;
  readonly #path: string;
  readonly #writer: SealedWriter;
  readonly #hash = createHash('sha256');
  #sizeBytes = 0;

  constructor(repository: Repository, facts: LogObjectFacts) {
    this.#repository = repository;
    this.#facts = facts;
    this.#path = logPath(facts, facts.name);
    this.#writer = new SealedWriter({
      kind: 'log',
      path: this.#path,
      keyring: repository.keyring,
      level: facts.level,
      ...(facts.buffer === undefined ? {} : { buffer: facts.buffer }),
    });
  }

  /**
   * Adds at most 1 MiB, hashed and compressed here and now while it is in the processor's cache: for a thread that has a
   * processor to itself.
   */
  add(body: Uint8Array): void {
    this.#hash.update(body);
    this.#writer.addFrame(body);
    this.#sizeBytes += body.length;
  }

  /** Adds any number of bytes: compressed on the thread pool, and hashed here meanwhile. */
  async addInBackground(bytes: Uint8Array): Promise<void> {
    const bodies: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += FRAME_BODY_BYTES)
      bodies.push(bytes.subarray(at, at + FRAME_BODY_BYTES));
    const compressing = bodies.map(body => compressInBackground(body, this.#facts.level, 'log'));
    this.#hash.update(bytes);
    const packed = await Promise.all(compressing);
    for (const [index, body] of bodies.entries()) this.#writer.addPacked(packed[index]!, body.length);
    this.#sizeBytes += bytes.length;
  }

  /**
   * Stores what was added. `'stored'` when it is durable now, `'same'` when the very same bytes were there. `buffer` is free
   * for the next object.
   *
   * @throws LOG_CONFLICT when there is one of this name with other bytes: nothing is overwritten
   */
  async put(
    options: CallOptions = {},
  ): Promise<{ readonly outcome: 'stored' | 'same'; readonly buffer: Uint8Array }> {
    const { name, systemIdentifier } = this.#facts;
    const sha256 = this.#hash.digest('hex');
    this.#writer.finish({ name, sizeBytes: this.#sizeBytes, sha256, systemIdentifier });
    const bytes = this.#writer.take();
    const created = await this.#repository.storage.put(this.#path, bytes, options);
    const outcome = created === 'created' ? 'stored' : await this.#compare(sha256, options);
    return { outcome, buffer: new Uint8Array(bytes.buffer) };
  }

  async #compare(sha256: string, options: CallOptions): Promise<'same'> {
    if ((await contentHash(this.#repository, this.#path, options)) === sha256) return 'same';
    throw new AppError(
      'LOG_CONFLICT',
      `unable to archive '${this.#facts.name}': it is archived already, with other bytes`,
      {
        hint: 'Nothing was overwritten. Does another server archive under this instance name, or was a segment damaged on disk?',
        details: { object: this.#path },
      },
    );
  }
}

/** SHA-256 in hex of what a stored log file holds, as its footer says; null when it is not there. @throws CORRUPT */
export async function contentHash(
  { storage, keyring }: Pick<Repository, 'storage' | 'keyring'>,
  path: string,
  options: CallOptions = {},
): Promise<string | null> {
  const present = await openSealed(storage, { path, kind: 'log', keyring }, options);
  return present === null ? null : String(present.footer['sha256']);
}
