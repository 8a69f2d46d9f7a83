import { randomBytes, randomUUID } from 'node:crypto';
import { Keyring } from '../../src/crypto/keyring.ts';
import type { Repository } from '../../src/repository/repository.ts';
import { memoryStorage } from '../../src/storage/memory/memory-storage.ts';

/** A new repository in memory with a key of its own; a passphrase would cost half a second. */
export function memoryRepository(): Repository {
  return {
    id: randomBytes(16).toString('hex'),
    storage: memoryStorage(randomUUID()),
    keyring: new Keyring(new Map([[1, randomBytes(32)]])),
  };
}

/** Puts other bytes in an object's place, which no part of the program can do. */
export async function overwrite({ storage }: Repository, path: string, bytes: Uint8Array): Promise<void> {
  await storage.delete(path);
  await storage.put(path, bytes);
}

/** The keys of all objects that begin with `prefix`. */
export async function keysOf({ storage }: Repository, prefix: string): Promise<string[]> {
  return (await collect(storage.list(prefix))).map(({ key }) => key);
}

/** Everything that an iterable gives. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
