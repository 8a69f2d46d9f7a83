import {
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';

/** The operating system user that restored files belong to; null: whoever runs this. */
export type Owner = { readonly uid: number; readonly gid: number } | null;

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

export interface NewFile {
  /** The file is made as long as this, full of zeros; 0 where it is written from its start. */
  readonly sizeBytes: number;
  readonly mode: number;
  readonly owner: Owner;
}

/**
 * Creates a file and opens it for writing; one that exists is never touched (a hostile manifest may name a path twice).
 *
 * @throws TARGET_NOT_EMPTY, FILE_FAILED, DISK_FULL
 */
export function createFile(path: string, facts: NewFile): number {
  let file: number;
  try {
    file = openNew(path, facts.owner);
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw fileError('create', path, error);
    throw new AppError('TARGET_NOT_EMPTY', `unable to restore '${path}': it exists already`, {
      hint: 'Restore into an empty directory.',
    });
  }
  try {
    // Nothing to others, and to the group no writing: PostgreSQL refuses wider ones of its own. Scripts that lie among them
    // (archive_command's, pgpool's) can still be run.
    fchmodSync(file, (facts.mode & 0o750) | FILE_MODE);
    if (facts.owner !== null) fchownSync(file, facts.owner.uid, facts.owner.gid);
    if (facts.sizeBytes > 0) ftruncateSync(file, facts.sizeBytes);
    return file;
  } catch (error) {
    closeSync(file);
    throw fileError('create', path, error);
  }
}

function openNew(path: string, owner: Owner): number {
  try {
    return openSync(path, 'wx', FILE_MODE);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    makeDirectory(dirname(path), { owner, mode: DIRECTORY_MODE });
    return openSync(path, 'wx', FILE_MODE);
  }
}

/**
 * Creates a directory and those above it that are missing. One that is there gets its owner: who made it may have been killed
 * before it could.
 *
 * @throws FILE_FAILED, DISK_FULL
 */
export function makeDirectory(path: string, facts: { readonly owner: Owner; readonly mode: number }): void {
  try {
    const mode = (facts.mode & 0o750) | DIRECTORY_MODE;
    const first = mkdirSync(path, { recursive: true, mode });
    if (facts.owner === null) return;
    if (first === undefined) {
      giveDirectory(path, facts.owner);
      return;
    }
    for (let made = path; made.length >= first.length; made = dirname(made))
      chownSync(made, facts.owner.uid, facts.owner.gid);
  } catch (error) {
    throw fileError('create', path, error);
  }
}

/** Never through a link, which could lead out of a directory that belongs to another user than this program's. */
function giveDirectory(path: string, owner: NonNullable<Owner>): void {
  let directory: number;
  try {
    directory = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    if (['ELOOP', 'ENOTDIR'].includes(systemCode(error))) return;
    throw error;
  }
  try {
    const { uid, gid } = fstatSync(directory);
    if (uid !== owner.uid || gid !== owner.gid) fchownSync(directory, owner.uid, owner.gid);
  } finally {
    closeSync(directory);
  }
}
