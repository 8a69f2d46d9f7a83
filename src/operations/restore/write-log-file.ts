import { closeSync, constants, fstatSync, ftruncateSync, openSync, renameSync, unlinkSync } from 'node:fs';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { createFile, type Owner } from './new-files.ts';
import { writeFully } from './write-fully.ts';

const LOG_FILE_MODE = 0o600;

/** Where a log file is written. */
export interface LogFilePlace {
  /** What it is called while it is written. */
  readonly aside: string;
  readonly target: string;
  /** A file that nobody needs any more, to be written over instead of a new one; it may be gone. */
  readonly reuse: string | null;
}

/** Writes a log file; under its own name only once it is whole: the server may look for it at any moment. @returns its length */
export function writeLogFile(place: LogFilePlace, owner: Owner, pieces: Iterable<Uint8Array>): number {
  const { aside, target } = place;
  const file =
    (place.reuse === null ? null : takeOver(place.reuse, aside)) ??
    createFile(aside, { sizeBytes: 0, mode: LOG_FILE_MODE, owner });
  let at = 0;
  try {
    for (const piece of pieces) {
      writeFully(file, piece, { position: at, path: target });
      at += piece.length;
    }
    ftruncateSync(file, at);
    // Not closed before: its number could be another file's when what follows fails.
    renameSync(aside, target);
    closeSync(file);
    return at;
  } catch (error) {
    discard(file, aside);
    throw error instanceof AppError ? error : fileError('write', target, error);
  }
}

/** Opens a file that is to be written over, under its new name; null where it is gone, or is no file of ours alone. */
function takeOver(path: string, aside: string): number | null {
  let file: number | null = null;
  try {
    renameSync(path, aside);
    file = openSync(aside, constants.O_RDWR | constants.O_NOFOLLOW);
    const stats = fstatSync(file);
    if (stats.isFile() && stats.nlink === 1) return file;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    if (systemCode(error) !== 'ELOOP') throw fileError('write', path, error);
  }
  if (file !== null) closeSync(file);
  unlinkSync(aside);
  return null;
}

function discard(file: number, path: string): void {
  for (const undo of [() => closeSync(file), () => unlinkSync(path)]) {
    try {
      undo();
    } catch {
      // Closed or renamed already; the error that led here is the one to tell.
    }
  }
}
