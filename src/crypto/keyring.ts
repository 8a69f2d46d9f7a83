import { AppError } from '../base/errors.ts';

/** The opened keys of a repository, by generation. Never printed, logged or serialised but to this program's threads. */
export class Keyring {
  readonly #keys: ReadonlyMap<number, Uint8Array>;

  constructor(keys: ReadonlyMap<number, Uint8Array>) {
    this.#keys = keys;
  }

  /** The newest generation: what new objects are sealed with. */
  get current(): number {
    return Math.max(...this.#keys.keys());
  }

  /** The 32 bytes of a generation's key. @throws KEY_WRONG when no slot opened this generation */
  key(generation: number): Uint8Array {
    const key = this.#keys.get(generation);
    if (key === undefined) {
      throw new AppError(
        'KEY_WRONG',
        `unable to open objects of key generation ${generation}: no key slot of it opens`,
        {
          hint: 'Use a passphrase or key file that has a slot for every generation.',
        },
      );
    }
    return key;
  }

  /** Plain data for a worker thread. */
  toWorker(): readonly (readonly [number, Uint8Array])[] {
    return [...this.#keys];
  }

  static fromWorker(entries: readonly (readonly [number, Uint8Array])[]): Keyring {
    return new Keyring(new Map(entries));
  }

  toJSON(): string {
    return '[redacted]';
  }
}
