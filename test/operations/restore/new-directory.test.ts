import { closeSync } from 'node:fs';
import { mkdir, stat, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createFile, makeDirectory } from '../../../src/operations/restore/new-files.ts';
import { temporaryDirectory } from '../../support/temp.ts';

const OTHER = { uid: 65_534, gid: 65_534 };

test('a directory - it and what is made above it get their owner, also when it was left without; never through a link', async context => {
  if (process.geteuid?.() !== 0) return context.skip('only root gives directories to others');
  await using place = await temporaryDirectory();
  const ownerOf = async (name: string): Promise<number> => (await stat(join(place.path, name))).uid;
  const make = (name: string): void => makeDirectory(join(place.path, name), { owner: OTHER, mode: 0o700 });
  make('base/1');
  expect([await ownerOf('base'), await ownerOf('base/1')]).toEqual([OTHER.uid, OTHER.uid]);
  // As a killed run leaves it.
  await mkdir(join(place.path, 'base/2'));
  make('base/2');
  expect(await ownerOf('base/2')).toBe(OTHER.uid);
  await mkdir(join(place.path, 'elsewhere'));
  await symlink(join(place.path, 'elsewhere'), join(place.path, 'link'));
  make('link');
  expect(await ownerOf('elsewhere')).toBe(0);
});

test('a file of any mode - nothing for others, no writing for the group, no set-uid; what could be run can be', async () => {
  await using place = await temporaryDirectory();
  for (const [mode, wanted] of [
    [0o600, 0o600],
    [0o640, 0o640],
    [0o666, 0o640],
    [0o755, 0o750],
    [0o700, 0o700],
    [0o4777, 0o750],
    [0, 0o600],
  ] as const) {
    const path = join(place.path, mode.toString(8));
    closeSync(createFile(path, { sizeBytes: 0, mode, owner: null }));
    expect((await stat(path)).mode & 0o7777, mode.toString(8)).toBe(wanted);
  }
});
