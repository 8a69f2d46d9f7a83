import { mkdir, stat, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { makeDirectory } from '../../../src/operations/restore/new-files.ts';
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
