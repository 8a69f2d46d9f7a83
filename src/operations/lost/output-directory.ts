import { mkdir, readdir } from 'node:fs/promises';
import { AppError, fileError, systemCode } from '../../base/errors.ts';

/** Refuses a directory with anything in it, before anything is done for it. @throws TARGET_NOT_EMPTY FILE_FAILED */
export async function checkOutputDirectory(path: string): Promise<void> {
  let entries: string[];
  try {
    entries = await readdir(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return;
    throw fileError('read', path, error);
  }
  if (entries.length === 0) return;
  throw new AppError('TARGET_NOT_EMPTY', `unable to write lost rows into '${path}': it is not empty`, {
    hint: 'Nothing was done. Choose a new directory.',
  });
}

/** What is in it is for its owner alone: it holds rows. @throws FILE_FAILED */
export async function makeOutputDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw fileError('create', path, error);
  }
}
