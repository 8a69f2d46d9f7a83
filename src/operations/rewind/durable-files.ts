import { mkdirSync, renameSync } from 'node:fs';
import { constants, copyFile, open, rename, rm, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileError, systemCode } from '../../base/errors.ts';
import { syncDirectory } from '../../base/sync-directory.ts';

/** Writes a file whole or not at all; durable when it resolves. */
export async function writeDurably(path: string, content: string | Uint8Array): Promise<void> {
  const aside = `${path}.tmp`;
  try {
    const file = await open(aside, 'w', 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(aside, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    throw fileError('write', path, error);
  }
}

export async function removeDurably(path: string): Promise<void> {
  try {
    await rm(path, { force: true });
    await syncDirectory(dirname(path));
  } catch (error) {
    throw fileError('remove', path, error);
  }
}

/** Renames within a file system; durable when it resolves. */
export async function renameDurably(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
    await syncDirectory(dirname(to));
    await syncDirectory(dirname(from));
  } catch (error) {
    throw fileError('rename', from, error);
  }
}

/**
 * Moves a file. At every moment it is whole in one of the two places; in both, when it had to be copied to another file
 * system and was not removed yet. A copy shares the blocks where the file system can do that. Not flushed. The calls are
 * synchronous: thousands of files are moved, and each takes a few microseconds.
 */
export async function moveFile(from: string, to: string): Promise<void> {
  try {
    renameInto(from, to);
  } catch (error) {
    if (systemCode(error) !== 'EXDEV') throw fileError('move', from, error);
    await copyWhole(from, to);
    await unlink(from);
  }
}

function renameInto(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
    renameSync(from, to);
  }
}

async function copyWhole(from: string, to: string): Promise<void> {
  const aside = `${to}.tmp`;
  try {
    await copyFile(from, aside, constants.COPYFILE_FICLONE);
    const file = await open(aside, 'r+');
    await file.sync().finally(() => file.close());
    await rename(aside, to);
  } catch (error) {
    throw fileError('copy', from, error);
  }
}
