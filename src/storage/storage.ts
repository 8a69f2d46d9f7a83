/** Facts about one object. */
export interface ObjectFacts {
  /** Path relative to the repository root: segments of `[A-Za-z0-9._-]`, joined by `/`. */
  readonly key: string;
  readonly sizeBytes: number;
  readonly modifiedMs: number;
}

/** A body too large for memory: exactly `sizeBytes` bytes in all; `open` may be called again for a retry. */
export interface BodyStream {
  readonly sizeBytes: number;
  open(): AsyncIterable<Uint8Array>;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
}

/** A part of an object. A negative offset counts from the end; without length: to the end. */
export interface ByteRange {
  readonly offset: number;
  readonly length?: number;
}

/**
 * Where a copy of the repository is kept. Every object is written once and never changed.
 *
 * What each adapter promises, and `storageContract` in the tests checks:
 * - Missing is a value (`null`), refusal is an error: `STORAGE_DENIED`, `STORAGE_FULL`, `STORAGE_UNREACHABLE`.
 * - A key that leaves the root (`..`, absolute, empty segments, other characters) is refused as a bug of the caller.
 * - An aborted call rejects with the signal's reason.
 */
export interface Storage {
  /** For people: `local disk (/var/backups/aishell)`. Never holds a secret. */
  readonly description: string;

  /**
   * Creates an object if there is none of this key. All or nothing: an object is visible whole or not at all, and once
   * `'created'` is returned it survives a power failure. `'exists'`: there is one already, it was left as it is, and
   * what it holds was not compared. A body that ends early or is longer than `sizeBytes` is an error, and leaves
   * nothing behind.
   */
  put(key: string, body: Uint8Array | BodyStream, options?: CallOptions): Promise<'created' | 'exists'>;

  /**
   * Reads an object or a part of it; null when there is none. A range beyond the end is cut to what there is (an empty
   * array when nothing is left); a negative offset larger than the object gives the whole object. Callers bound what
   * they ask for: the answer is held in memory, and is the caller's alone.
   */
  get(key: string, range?: ByteRange, options?: CallOptions): Promise<Uint8Array | null>;

  /** Facts of one object, null when there is none. */
  head(key: string, options?: CallOptions): Promise<ObjectFacts | null>;

  /** All objects whose key starts with `prefix`, in ascending order of their keys' bytes; `after`: only keys beyond it. */
  list(prefix: string, options?: CallOptions & { readonly after?: string }): AsyncIterable<ObjectFacts>;

  /** Removes an object; a missing one is fine. */
  delete(key: string, options?: CallOptions): Promise<void>;

  /** Bytes still free, where the storage knows it. */
  freeBytes?(): Promise<number>;
}

/** How a storage is named in the configuration and handed to worker threads: plain data, no secrets. */
export type StorageLocation =
  | { readonly kind: 'local'; readonly path: string }
  | { readonly kind: 'memory'; readonly name: string };
