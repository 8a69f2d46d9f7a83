import { createHash } from 'node:crypto';
import { chmod, lstat, mkdir, readdir, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { type LocalStorageOptions, localStorage } from '../../../src/storage/local/local-storage.ts';
import { isSame, keysOf, patternBytes, streamOf } from '../bodies.ts';
import { startChild } from '../start-child.ts';
import { storageContract } from '../storage-contract.ts';
import { temporaryDirectory } from '../temporary-directory.ts';

const one = new Uint8Array([1]);

for (const options of [{}, { hardLinks: false }] satisfies LocalStorageOptions[]) {
  const name = options.hardLinks === false ? 'local without hard links' : 'local';
  storageContract(name, async () => {
    const directory = await temporaryDirectory();
    return {
      storage: localStorage(join(directory.path, 'not', 'yet'), options),
      close: async () => await directory[Symbol.asyncDispose](),
    };
  });

  test(`${name}, puts and failures - no temporary file is left`, async () => {
    await using directory = await temporaryDirectory();
    const storage = localStorage(directory.path, options);
    await storage.put('a/b', one);
    await storage.put('a/b', one);
    await expect(storage.put('a/c', streamOf([one], 2))).rejects.toThrow();
    expect(await readdir(directory.path, { recursive: true })).toEqual(['a', 'a/b']);
  });
}

test('six processes put the same twenty keys at once - one creates each, and its bytes are there', async () => {
  await using directory = await temporaryDirectory();
  const root = join(directory.path, 'new');
  const seeds = [1, 2, 3, 4, 5, 6];
  const children = seeds.map(seed =>
    startChild({ do: 'put-twenty', root, key: 'a/b', sizeBytes: 50_000, seed }),
  );
  await Promise.all(children.map(child => child.ready));
  for (const child of children) child.begin();
  const outcomes = await Promise.all(children.map(async child => (await child.ended).result as string[]));
  for (let index = 0; index < 20; index += 1) {
    const creators = seeds.filter((_, process) => outcomes[process]?.[index] === 'created');
    expect(creators, `creators of ${index}`).toHaveLength(1);
    const found = await localStorage(root).get(`a/b/${index}`);
    expect(isSame(found, patternBytes(50_000, creators[0])), `bytes of ${index}`).toBe(true);
  }
  expect((await readdir(root)).filter(name => name.startsWith('.'))).toEqual([]);
});

test('what is made - is for its owner alone', async () => {
  await using directory = await temporaryDirectory();
  const root = join(directory.path, 'new', 'root');
  await localStorage(root).put('a/b', one);
  const modes = await Promise.all(
    [dirname(root), root, join(root, 'a'), join(root, 'a/b')].map(
      async path => (await lstat(path)).mode & 0o777,
    ),
  );
  expect(modes).toEqual([0o700, 0o700, 0o700, 0o600]);
});

test('the directories are removed under an open storage - the next put makes them again', async () => {
  await using directory = await temporaryDirectory();
  const root = join(directory.path, 'root');
  const storage = localStorage(root);
  await storage.put('a/b', one);
  await rm(root, { recursive: true });
  expect(await storage.put('a/b', one)).toBe('created');
  await rm(join(root, 'a'), { recursive: true });
  expect(await storage.put('a/b', one)).toBe('created');
});

test('left-over files of killed runs - go after a day, younger ones stay, neither is listed', async () => {
  await using directory = await temporaryDirectory();
  const [old, young] = [join(directory.path, '.tmp-old'), join(directory.path, '.tmp-young')];
  for (const path of [old, young]) await writeFile(path, 'half');
  const before = Date.now() / 1000 - 25 * 3600;
  await utimes(old, before, before);
  const storage = localStorage(directory.path);
  await storage.put('a', one);
  expect((await readdir(directory.path)).toSorted()).toEqual(['.tmp-young', 'a']);
  expect(await keysOf(storage.list(''))).toEqual(['a']);
});

test('a lock of a killed run where there are no hard links - named after a wait, never broken', async () => {
  await using directory = await temporaryDirectory();
  const storage = localStorage(directory.path, { hardLinks: false });
  const name = createHash('sha256').update(join(directory.path, 'a')).digest('hex').slice(0, 24);
  await writeFile(join(directory.path, `.tmp-lock-${name}`), '');
  await expect(storage.put('a', one, { signal: AbortSignal.timeout(200) })).rejects.toThrow('timeout');
  await expect(storage.put('a', one)).rejects.toMatchObject({
    code: 'LOCKED',
    hint: expect.stringContaining(name),
  });
  expect(await storage.head('a')).toBeNull();
  expect(await storage.put('b', one)).toBe('created');
}, 30_000);

test('symbolic links - are not listed, read or written through', async () => {
  await using directory = await temporaryDirectory();
  const [root, elsewhere] = [join(directory.path, 'root'), join(directory.path, 'elsewhere')];
  await mkdir(root);
  await mkdir(elsewhere);
  await writeFile(join(elsewhere, 'secret'), 'secret');
  await symlink(elsewhere, join(root, 'directory'));
  await symlink(join(elsewhere, 'secret'), join(root, 'file'));
  await symlink('/nowhere', join(root, 'dangling'));
  const storage = localStorage(root);
  await storage.put('object', one);
  expect(await keysOf(storage.list(''))).toEqual(['object']);
  for (const key of ['file', 'dangling']) {
    await expect(storage.get(key)).rejects.toMatchObject({ code: 'STORAGE_UNREACHABLE' });
    await expect(storage.head(key)).rejects.toMatchObject({ code: 'STORAGE_UNREACHABLE' });
    await expect(storage.put(key, one)).rejects.toMatchObject({ code: 'STORAGE_UNREACHABLE' });
  }
  await expect(storage.put('directory/new', one)).rejects.toMatchObject({ code: 'STORAGE_UNREACHABLE' });
  expect(await readdir(elsewhere)).toEqual(['secret']);
});

test('the root itself is a symbolic link - followed, it is the user who says where', async () => {
  await using directory = await temporaryDirectory();
  await mkdir(join(directory.path, 'real'));
  await symlink('real', join(directory.path, 'root'));
  const storage = localStorage(join(directory.path, 'root'));
  await storage.put('a/b', one);
  expect(await keysOf(storage.list(''))).toEqual(['a/b']);
  expect(await readFile(join(directory.path, 'real/a/b'))).toHaveLength(1);
});

test('names that can be no keys, beside the objects - are passed over', async () => {
  await using directory = await temporaryDirectory();
  const storage = localStorage(directory.path);
  await storage.put('a', one);
  await mkdir(join(directory.path, 'lost+found'));
  await writeFile(join(directory.path, 'a copy.txt'), 'x');
  await chmod(join(directory.path, 'lost+found'), 0);
  expect(await keysOf(storage.list(''))).toEqual(['a']);
  await chmod(join(directory.path, 'lost+found'), 0o700);
});

test('a directory or a file stands in the way - the error names it', async () => {
  await using directory = await temporaryDirectory();
  const storage = localStorage(directory.path);
  await mkdir(join(directory.path, 'taken'));
  await writeFile(join(directory.path, 'file'), 'x');
  await expect(storage.put('taken', one)).rejects.toMatchObject({ code: 'STORAGE_UNREACHABLE' });
  await expect(storage.put('file/below', one)).rejects.toMatchObject({ code: 'STORAGE_UNREACHABLE' });
  await expect(localStorage(join(directory.path, 'file')).put('a', one)).rejects.toMatchObject({
    code: 'STORAGE_UNREACHABLE',
    message: expect.stringContaining(join(directory.path, 'file')),
  });
});
