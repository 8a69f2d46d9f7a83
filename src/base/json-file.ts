import { readFileSync, renameSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AppError, fileError, messageOf, systemCode } from './errors.ts';
import { syncDirectory } from './sync-directory.ts';

/** Reads a small file of the agent's own; null when there is none. @throws FILE_FAILED */
export function readJsonFile<T>(path: string): T | null {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    if (!(error instanceof SyntaxError)) throw fileError('read', path, error);
    throw new AppError('FILE_FAILED', `unable to read '${path}': ${messageOf(error)}`, {
      hint: 'It is damaged. Look at what it says, then remove it.',
    });
  }
}

/** Replaces it, whole or not at all; on the disk when this resolves. */
export async function writeJsonFile(path: string, value: unknown): Promise<void> {
  const temporary = `${path}.tmp`;
  try {
    await using file = await open(temporary, 'w', 0o600);
    await file.writeFile(`${JSON.stringify(value)}\n`);
    await file.sync();
    renameSync(temporary, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    rmSync(temporary, { force: true });
    throw fileError('write', path, error);
  }
}
