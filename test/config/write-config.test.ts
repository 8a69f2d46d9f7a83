import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { replaceFile, writeNewFile } from '../../src/config/write-config.ts';
import { temporaryDirectory } from '../support/temp.ts';

const own = { mode: 0o600, owner: null };

it('a new file - whole, with its mode, and never over another one', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'deep', 'key');
  await writeNewFile(path, 'first', own);
  await expect(writeNewFile(path, 'second', own)).rejects.toMatchObject({ code: 'EXISTS' });
  expect([readFileSync(path, 'utf8'), statSync(path).mode & 0o777]).toEqual(['first', 0o600]);
  expect(readdirSync(join(directory.path, 'deep'))).toEqual(['key']);
});

it('a file that cannot be replaced - said, and nothing is left beside it', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'aishell.yaml');
  mkdirSync(join(path, 'in'), { recursive: true });
  await expect(replaceFile(path, 'text', own)).rejects.toMatchObject({ code: 'FILE_FAILED' });
  expect(readdirSync(directory.path)).toEqual(['aishell.yaml']);
});
