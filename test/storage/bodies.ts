import type { BodyStream, ObjectFacts } from '../../src/storage/storage.ts';

/** Bytes that differ at every place, so that a piece read from the wrong place is noticed. */
export function patternBytes(sizeBytes: number, seed = 1): Uint8Array {
  const words = new Uint32Array(Math.ceil(sizeBytes / 4));
  for (let index = 0; index < words.length; index += 1) words[index] = Math.imul(index + seed, 2654435761);
  return new Uint8Array(words.buffer, 0, sizeBytes);
}

/** A body in chunks of its own; `sizeBytes` may lie about them. */
export function streamOf(chunks: readonly Uint8Array[], sizeBytes?: number): BodyStream {
  return {
    sizeBytes: sizeBytes ?? chunks.reduce((sum, chunk) => sum + chunk.length, 0),
    async *open() {
      yield* chunks;
    },
  };
}

export async function collect(objects: AsyncIterable<ObjectFacts>): Promise<ObjectFacts[]> {
  const found: ObjectFacts[] = [];
  for await (const facts of objects) found.push(facts);
  return found;
}

export async function keysOf(objects: AsyncIterable<ObjectFacts>): Promise<string[]> {
  return (await collect(objects)).map(facts => facts.key);
}

/** As toEqual for bytes, but not slow for megabytes of them. */
export function isSame(
  found: Uint8Array | null | undefined,
  expected: Uint8Array | null | undefined,
): boolean {
  return (
    found instanceof Uint8Array && expected instanceof Uint8Array && Buffer.compare(found, expected) === 0
  );
}
