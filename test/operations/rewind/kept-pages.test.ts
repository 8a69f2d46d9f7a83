import { hash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openKeptWriter, readKept } from '../../../src/operations/rewind/kept-pages.ts';
import { temporaryDirectory } from '../../support/temp.ts';

const sections = [
  { path: 'base/5/16400', offset: 8192, bytes: new Uint8Array(8192).fill(1) },
  { path: 'pg_tblspc/16500/PG_18/5/16401.3', offset: 2 ** 33, bytes: new Uint8Array(100).fill(2) },
  { path: 'base/5/ü', offset: 0, bytes: new Uint8Array(3_000_000).fill(3) },
];

async function keep(file: string): Promise<void> {
  const writer = openKeptWriter(file);
  for (const { path, offset, bytes } of sections) writer.add(path, offset, bytes);
  writer.close();
}

interface Digest {
  readonly path: string;
  readonly offset: number;
  readonly bytes: string;
}

function digest(section: {
  readonly path: string;
  readonly offset: number;
  readonly bytes: Uint8Array;
}): Digest {
  return { ...section, bytes: hash('sha256', section.bytes) };
}

function read(file: string): Digest[] {
  return Array.from(readKept(file), digest);
}

test('pages that were kept - come back', async () => {
  await using root = await temporaryDirectory();
  const file = join(root.path, 'pages-1');
  await keep(file);
  expect(read(file)).toEqual(sections.map(digest));
  // One that is written again begins anew.
  openKeptWriter(file).close();
  expect(read(file)).toEqual([]);
});

test('a byte flipped anywhere, or the end cut off - is refused', async () => {
  await using root = await temporaryDirectory();
  const file = join(root.path, 'pages-1');
  await keep(file);
  const bytes = await readFile(file);
  const places = [0, 8, 16, 20, 24, 28, 32, 50, 8300, bytes.length - 32, bytes.length - 24, bytes.length - 1];
  for (const place of places) {
    const damaged = Buffer.from(bytes);
    damaged[place]! ^= 1;
    await writeFile(file, damaged);
    expect(() => read(file), `byte ${place}`).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
  }
  for (const length of [0, 31, 32, 5000, bytes.length - 32, bytes.length - 1]) {
    await writeFile(file, bytes.subarray(0, length));
    expect(() => read(file), `${length} bytes`).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
  }
});
