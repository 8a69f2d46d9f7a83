import type { Stats } from 'node:fs';
import { lchown, lstat, mkdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { systemCode } from '../../base/errors.ts';
import { syncDirectory } from '../../base/sync-directory.ts';
import { somethingElse } from './local-error.ts';

/** Whom new files and directories are given to; null: whoever made them keeps them. */
export type Owner = { readonly uid: number; readonly gid: number } | null;

/** What one storage knows of its directories: it makes each once, and makes sure that it survives a power failure. */
export interface Directories {
  /** Makes the root, and below it a directory (`a/b`, `` for the root itself), as far as they are missing. */
  ensure(relative: string): Promise<Owner>;
  /** To be called when a directory that was there is gone: what was known is not relied on any more. */
  forget(): void;
}

/** An entry this old was written back by the kernel, whether its maker lived to sync it or not (30 s is Linux' default). */
const WRITTEN_BACK_MS = 60_000;

export function directoriesOf(root: string): Directories {
  const known = new Set<string>();
  let owner: Promise<Owner> | null = null;
  const forget = (): void => {
    known.clear();
    owner = null;
  };
  const ensure = async (relative: string): Promise<Owner> => {
    owner ??= makeRoot(root);
    try {
      const to = await owner;
      if (!known.has(relative)) await makeBelow(root, relative, to);
      known.add(relative);
      return to;
    } catch (error) {
      forget();
      throw error;
    }
  };
  return { ensure, forget };
}

/**
 * Run by root on the repository of an ordinary user (`sudo aishell …`), everything new is given to that user, who could
 * not archive the log into it otherwise. A root directory that is made here takes after the directory it is made in.
 */
async function makeRoot(root: string): Promise<Owner> {
  const first = await mkdir(root, { recursive: true, mode: 0o700 });
  const asRoot = process.geteuid?.() === 0;
  const { uid, gid } = await stat(first === undefined ? root : dirname(first));
  const owner = asRoot && uid !== 0 ? { uid, gid } : null;
  if (first === undefined) return owner;
  for (let path = root; path.length >= first.length; path = dirname(path)) {
    if (owner !== null) await lchown(path, owner.uid, owner.gid);
    await syncDirectory(dirname(path));
  }
  return owner;
}

async function makeBelow(root: string, relative: string, owner: Owner): Promise<void> {
  let parent = root;
  for (const name of relative === '' ? [] : relative.split('/')) {
    const path = join(parent, name);
    const isNew = await makeOne(path, owner);
    // Another process may have made it a moment ago and not have synced it yet: what is put into it must not be lost
    // with it. Old entries are spared the sync, which costs a flush of the disk.
    if (isNew || Date.now() - (await stat(parent)).mtimeMs < WRITTEN_BACK_MS) await syncDirectory(parent);
    parent = path;
  }
}

/** A symbolic link is refused: as root, writing through one would write wherever the repository's owner likes. */
async function makeOne(path: string, owner: Owner): Promise<boolean> {
  const found = await lstatOrNull(path);
  if (found === null) {
    try {
      await mkdir(path, { mode: 0o700 });
      if (owner !== null) await lchown(path, owner.uid, owner.gid);
      return true;
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
      return await makeOne(path, owner);
    }
  }
  if (!found.isDirectory()) throw somethingElse('use the directory', path);
  return false;
}

/** Facts of a path itself, null when there is nothing. */
export async function lstatOrNull(path: string): Promise<Stats | null> {
  try {
    return await lstat(path);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/** Whether an error says that there is nothing at a path, or that a part of it is no directory. */
export function isMissing(error: unknown): boolean {
  const code = systemCode(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}
