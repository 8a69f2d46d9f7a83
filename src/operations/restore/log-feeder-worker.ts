import { workerData } from 'node:worker_threads';
import { AppError } from '../../base/errors.ts';
import { releaseMemory } from '../../base/release-memory.ts';
import { Keyring } from '../../crypto/keyring.ts';
import { logPath } from '../../repository/layout.ts';
import { getLogFile } from '../../repository/log-archive.ts';
import { logFrames } from '../../repository/log-frames.ts';
import { openStorage } from '../../storage/registry.ts';
import { serveBatches } from '../worker-thread.ts';
import type { FedFile, FeedTask, LogFeederWorkerStart } from './log-feeder-protocol.ts';
import { writeLogFile } from './write-log-file.ts';

/**
 * A thread that puts log files where a recovering server reads them. The file after the one it works on is fetched
 * meanwhile.
 */
const start = workerData as LogFeederWorkerStart;

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
  const pieces = releasing(await (fetching.get(task.index) ?? fetch(task)));
  fetching.delete(task.index);
  const fetchedAt = performance.now();
  const bytes =
    task.into === null ? writeLogFile(task, start.owner, pieces) : fill(task.into, task.name, pieces);
  const workMs = performance.now() - fetchedAt;
  send({ index: task.index, bytes, workMs, waitedMs: fetchedAt - askedAt });
}

/** Gives each piece back when the next one is asked for. */
function* releasing(pieces: Iterable<Uint8Array>): Generator<Uint8Array> {
  for (const piece of pieces) {
    yield piece;
    releaseMemory(piece);
  }
}

/** @returns how much it is; more than there is room for is no segment */
function fill(into: SharedArrayBuffer, name: string, pieces: Iterable<Uint8Array>): number {
  const room = new Uint8Array(into);
  let at = 0;
  for (const piece of pieces) {
    if (at + piece.length > room.length)
      throw new AppError('CORRUPT', `log file '${name}' is longer than a segment`);
    room.set(piece, at);
    at += piece.length;
  }
  return at;
}
