import { readBody } from '../body.ts';
import { cutRange } from '../byte-range.ts';
import { checkKey, checkPrefix } from '../key.ts';
import type { CallOptions, Storage } from '../storage.ts';

interface StoredObject {
  readonly bytes: Uint8Array;
  readonly modifiedMs: number;
}

/**
 * By name, for the life of this thread: a location names a place, so whoever opens the same one finds the same objects.
 */
const places = new Map<string, Map<string, StoredObject>>();

/** Objects in the memory of this thread, for tests and trials. Other threads and processes do not see them. */
export function memoryStorage(name: string): Storage {
  const objects = places.get(name) ?? new Map<string, StoredObject>();
  places.set(name, objects);
  const find = (key: string, options?: CallOptions): StoredObject | undefined => {
    checkKey(key);
    options?.signal?.throwIfAborted();
    return objects.get(key);
  };
  return {
    description: `memory (${name})`,
    put: async (key, body, options) => {
      if (find(key, options) !== undefined) return 'exists';
      const chunks: Uint8Array[] = [];
      for await (const chunk of readBody(key, body, options?.signal)) chunks.push(chunk.slice());
      options?.signal?.throwIfAborted();
      // Asked again: another put of this key may have ended while the body was read.
      if (objects.has(key)) return 'exists';
      objects.set(key, { bytes: new Uint8Array(Buffer.concat(chunks)), modifiedMs: Date.now() });
      return 'created';
    },
    get: async (key, range, options) => {
      const found = find(key, options);
      if (found === undefined) return null;
      const { start, end } = cutRange(range, found.bytes.length);
      return found.bytes.slice(start, end);
    },
    head: async (key, options) => {
      const found = find(key, options);
      return found === undefined
        ? null
        : { key, sizeBytes: found.bytes.length, modifiedMs: found.modifiedMs };
    },
    list: (prefix, { after = '', signal } = {}) => {
      checkPrefix(prefix);
      return (async function* () {
        for (const key of [...objects.keys()]
          .filter(each => each.startsWith(prefix) && each > after)
          .sort()) {
          signal?.throwIfAborted();
          const found = objects.get(key);
          if (found !== undefined) yield { key, sizeBytes: found.bytes.length, modifiedMs: found.modifiedMs };
        }
      })();
    },
    delete: async (key, options) => {
      find(key, options);
      objects.delete(key);
    },
  };
}
