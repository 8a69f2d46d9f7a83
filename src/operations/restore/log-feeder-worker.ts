import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { workerData } from 'node:worker_threads';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { releaseMemory } from '../../base/release-memory.ts';
import { Keyring } from '../../crypto/keyring.ts';
import { logPath } from '../../repository/layout.ts';
import { getLogFile } from '../../repository/log-archive.ts';
import { logFrames } from '../../repository/log-frames.ts';
import { openStorage } from '../../storage/registry.ts';
import { serveBatches } from '../worker-thread.ts';
import type { FedFile, FeedTask, LogFeederWorkerStart } from './log-feeder-protocol.ts';
import { createFile } from './new-files.ts';

/**
 * A thread that puts log files where a recovering server reads them. The file after the one it works on is fetched
 * meanwhile.
 */
const start = workerData as LogFeederWorkerStart;

const LOG_FILE_MODE = 0o600;
const storage = openStorage(start.location);
const keyring = Keyring.fromWorker(start.keys);
const fetching = new Map<number, Promise<Iterable<Uint8Array>>>();

const send = serveBatches<FeedTask, FedFile>(feed, task => {
  const fetched = fetch(task);
  // A failed fetch is thrown where it is awaited; until then it must not count as unhandled.
  fetched.catch(() => undefined);
  fetching.set(task.index, fetched);
});

/** The content of a log file, piece by piece; what is fetched is not opened yet. */
async function fetch({ name }: FeedTask): Promise<Iterable<Uint8Array>> {
  const path = logPath(start.log, name);
  if (name.endsWith('.partial')) {
    // Of an unfinished segment there may be several objects.
    const joined = await getLogFile({ id: '', storage, keyring }, start.log, name);
    if (joined !== null) return [joined];
  } else {
    const stored = await storage.get(path);
    if (stored !== null) return logFrames(stored, { path, keyring });
  }
  throw new AppError('LOG_NOT_FOUND', `log file '${name}' is not archived any more`);
}

async function feed(task: FeedTask): Promise<void> {
  const askedAt = performance.now();
  const pieces = await (fetching.get(task.index) ?? fetch(task));
  fetching.delete(task.index);
  const fetchedAt = performance.now();
  const bytes = write(task, pieces);
  const workMs = performance.now() - fetchedAt;
  send({ index: task.index, bytes, workMs, waitedMs: fetchedAt - askedAt });
}

/** Under its own name only once it is whole: the server may look for it at any moment. */
function write(task: FeedTask, pieces: Iterable<Uint8Array>): number {
  const file =
    (task.reuse === null ? null : takeOver(task.reuse, task.aside)) ??
    createFile(task.aside, { sizeBytes: 0, mode: LOG_FILE_MODE, owner: start.owner });
  let at = 0;
  try {
    for (const piece of pieces) {
      for (let done = 0; done < piece.length; )
        done += writeSync(file, piece, done, piece.length - done, at + done);
      at += piece.length;
      releaseMemory(piece);
    }
    ftruncateSync(file, at);
    // Not closed before: its number could be another file's when what follows fails.
    renameSync(task.aside, task.target);
    closeSync(file);
    return at;
  } catch (error) {
    discard(file, task.aside);
    throw error instanceof AppError ? error : fileError('write', task.target, error);
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
