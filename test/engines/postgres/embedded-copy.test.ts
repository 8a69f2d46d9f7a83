import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { copyTree } from '../../../src/engines/postgres/embedded-copy.ts';
import { temporaryDirectory } from '../../support/temp.ts';

test('files of all modes - everyone can read the copy, programs stay programs, what others can read is linked', async () => {
  await using directory = await temporaryDirectory();
  const [source, target] = [join(directory.path, 'source'), join(directory.path, 'target')];
  await mkdir(join(source, 'inner'), { recursive: true, mode: 0o700 });
  for (const [name, mode] of [
    ['private', 0o600],
    ['inner/program', 0o700],
    ['public', 0o644],
  ] as const) {
    await writeFile(join(source, name), name);
    await chmod(join(source, name), mode);
  }
  await symlink('private', join(source, 'link'));
  await chmod(source, 0o700);

  await copyTree(source, target);
  const modeOf = async (name: string): Promise<number> => (await stat(join(target, name))).mode & 0o777;
  expect(await modeOf('.')).toBe(0o755);
  expect(await modeOf('inner')).toBe(0o755);
  expect(await modeOf('private')).toBe(0o644);
  expect(await modeOf('inner/program')).toBe(0o755);
  expect(await readFile(join(target, 'inner/program'), 'utf8')).toBe('inner/program');
  expect((await stat(join(target, 'public'))).ino).toBe((await stat(join(source, 'public'))).ino);
  expect(await readdir(target)).toEqual(['inner', 'private', 'public']);
  expect((await stat(join(source, 'private'))).mode & 0o777).toBe(0o600);
});
