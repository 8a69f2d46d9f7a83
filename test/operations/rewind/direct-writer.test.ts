import { randomBytes } from 'node:crypto';
import { readFile, rm, stat, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openDirectWriter } from '../../../src/operations/rewind/direct-writer.ts';
import { temporaryDirectory } from '../../support/temp.ts';

const MIB = 1024 * 1024;

test('pieces of any length - make the same file, as long as they are together', async () => {
  await using root = await temporaryDirectory();
  for (const lengths of [
    [],
    [1],
    [4096],
    [5000, 3],
    [MIB - 1, 2, 3 * MIB + 17],
    [MIB, MIB],
    [100, 2 * MIB, 0, 8192],
  ]) {
    const path = join(root.path, `file-${lengths.join('-')}`);
    const pieces = lengths.map(length => randomBytes(length));
    const writer = openDirectWriter(path);
    for (const piece of pieces) writer.add(piece);
    writer.close();
    expect(Buffer.concat(pieces).equals(await readFile(path)), path).toBe(true);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  }
});

test('a file system that writes nothing directly - has the same file', async () => {
  // A file system in memory, which refused direct writes until Linux 6.6.
  const path = `/dev/shm/aishell-direct-writer-${process.pid}`;
  try {
    const bytes = randomBytes(2 * MIB + 5);
    const writer = openDirectWriter(path);
    writer.add(bytes);
    writer.close();
    expect(bytes.equals(await readFile(path))).toBe(true);
  } finally {
    await rm(path, { force: true });
  }
});

test('a link in its place - is refused', async () => {
  await using root = await temporaryDirectory();
  const path = join(root.path, 'link');
  await symlink(join(root.path, 'elsewhere'), path);
  expect(() => openDirectWriter(path)).toThrow(expect.objectContaining({ code: 'FILE_FAILED' }));
});
