import { mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  checkEmptyDirectory,
  checkSpace,
  claimDirectory,
  clearDirectory,
  isMountPoint,
} from '../../../src/operations/restore/target-directory.ts';
import { temporaryDirectory } from '../../support/temp.ts';

const nobody = { dataDirectory: null, repositoryPath: null };

test('a new directory, an empty one, a link to an empty one, a new file system - taken', async () => {
  await using root = await temporaryDirectory();
  await mkdir(join(root.path, 'empty'));
  await mkdir(join(root.path, 'disk/lost+found'), { recursive: true });
  await symlink(join(root.path, 'empty'), join(root.path, 'link'));
  expect(await checkEmptyDirectory(join(root.path, 'new'), nobody)).toEqual({
    path: join(root.path, 'new'),
    exists: false,
  });
  expect(await checkEmptyDirectory(join(root.path, 'empty'), nobody)).toEqual({
    path: join(root.path, 'empty'),
    exists: true,
  });
  expect(await checkEmptyDirectory(join(root.path, 'link'), nobody)).toEqual({
    path: join(root.path, 'empty'),
    exists: true,
  });
  expect((await checkEmptyDirectory(join(root.path, 'disk'), nobody)).exists).toBe(true);
});

test('a directory with something in it, a hidden file too - refused, nothing is changed', async () => {
  await using root = await temporaryDirectory();
  for (const name of ['PG_VERSION', '.hidden', 'postmaster.pid']) {
    const path = join(root.path, `of-${name}`);
    await mkdir(path);
    await writeFile(join(path, name), 'mine');
    await expect(checkEmptyDirectory(path, nobody)).rejects.toMatchObject({
      code: 'TARGET_NOT_EMPTY',
      exitCode: 4,
    });
    expect(await readFile(join(path, name), 'utf8')).toBe('mine');
  }
  await expect(checkEmptyDirectory('/', nobody)).rejects.toMatchObject({ code: 'TARGET_NOT_EMPTY' });
});

test('a file, a place in a directory that is not there - refused', async () => {
  await using root = await temporaryDirectory();
  await writeFile(join(root.path, 'file'), '');
  for (const name of ['file', 'missing/new'])
    await expect(checkEmptyDirectory(join(root.path, name), nobody)).rejects.toMatchObject({
      code: 'TARGET_UNUSABLE',
    });
  await expect(checkEmptyDirectory(join(root.path, 'file/new'), nobody)).rejects.toMatchObject({
    exitCode: expect.toSatisfy((code: number) => code === 4 || code === 1),
  });
});

test('the data directory, the repository, in them, around them, or by a link - refused', async () => {
  await using root = await temporaryDirectory();
  const own = join(root.path, 'own');
  await mkdir(join(own, 'inside'), { recursive: true });
  await symlink(own, join(root.path, 'link'));
  await symlink(join(own, 'inside'), join(root.path, 'link-inside'));
  for (const forbidden of [
    { ...nobody, dataDirectory: own },
    { ...nobody, repositoryPath: own },
    { ...nobody, dataDirectory: join(root.path, 'link') },
  ]) {
    for (const path of ['own', 'own/inside', 'own/new', 'own/../own', 'link', 'link/new', 'link-inside', ''])
      await expect(checkEmptyDirectory(join(root.path, path), forbidden), path).rejects.toMatchObject({
        code: 'TARGET_UNUSABLE',
      });
    expect((await checkEmptyDirectory(join(root.path, 'own-too'), forbidden)).exists).toBe(false);
  }
});

test('a claimed directory - closed to others; cleared, it is as before', async () => {
  await using root = await temporaryDirectory();
  await mkdir(join(root.path, 'empty'), { mode: 0o755 });
  for (const name of ['new', 'empty']) {
    const directory = await checkEmptyDirectory(join(root.path, name), nobody);
    await claimDirectory(directory, null);
    expect((await stat(directory.path)).mode & 0o777).toBe(0o700);
    await mkdir(join(directory.path, 'base/1'), { recursive: true });
    await writeFile(join(directory.path, 'base/1/1259'), 'x');
    await clearDirectory(directory);
  }
  expect(await readdir(root.path)).toEqual(['empty']);
  expect(await readdir(join(root.path, 'empty'))).toEqual([]);
});

test('space - what fits is taken, what does not is refused with both figures', async () => {
  await using root = await temporaryDirectory();
  await checkSpace(join(root.path, 'a/b/c'), 1000);
  await expect(checkSpace(join(root.path, 'a'), 2 ** 60)).rejects.toMatchObject({
    code: 'SPACE_INSUFFICIENT',
    exitCode: 4,
    details: { neededBytes: expect.any(Number), freeBytes: expect.any(Number) },
  });
});

test('mount points - known, a directory is none', async () => {
  await using root = await temporaryDirectory();
  expect(await isMountPoint('/proc')).toBe(true);
  expect(await isMountPoint(root.path)).toBe(false);
});
