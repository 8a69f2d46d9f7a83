import { closeSync, openSync, readSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { assert, fileError, systemCode } from '../../base/errors.ts';
import { Keyring } from '../../crypto/keyring.ts';
import { createPageChecker } from '../../engines/postgres/page-checksum.ts';
import { isNewPage, pageLsn } from '../../engines/postgres/page-header.ts';
import { FRAME_BODY_BYTES } from '../../repository/compression.ts';
import type { DamagedPage } from '../../repository/manifest.ts';
import {
  PACK_BUFFER_BYTES,
  type PackTarget,
  PackWriter,
  type StoredFrame,
} from '../../repository/pack-writer.ts';
import { openStorage } from '../../storage/registry.ts';
import { gatherProgress, serveBatches } from '../worker-thread.ts';
import type {
  BackupBatch,
  BackupMessage,
  BackupWorkerStart,
  ReadResult,
  ReadTask,
} from './backup-protocol.ts';
import type { PageSelection } from './page-selection.ts';
import { packRanges, type Ranges } from './ranges.ts';
import { readSelected } from './read-selected.ts';

/**
 * A thread of a backup: reads, checks pages, hashes, compresses, seals, and puts packs, all by itself. Reading and
 * computing are synchronous (measured: the asynchronous thread pool is half as fast); putting a pack is not, and goes on
 * while the next one is filled in a second buffer.
 */
const start = workerData as BackupWorkerStart;

const storage = openStorage(start.location);
const target: PackTarget = {
  instance: start.instance,
  backupId: start.backupId,
  keyring: Keyring.fromWorker(start.keys),
  level: start.level,
};
const checker = createPageChecker(FRAME_BODY_BYTES, start.blockSize);
/** What an incremental backup stores of scattered pages. */
const selected = new Uint8Array(FRAME_BODY_BYTES);
const REREADS = 5;
const REREAD_PAUSE_MS = 10;

let buffer: Uint8Array<ArrayBuffer> = new Uint8Array(PACK_BUFFER_BYTES);
let spare: Uint8Array<ArrayBuffer> = new Uint8Array(PACK_BUFFER_BYTES);
let pack = new PackWriter(target, buffer);
/** Of the batch in work. */
let startLsn: bigint | null = null;
let putting: Promise<void> = Promise.resolve();
let putFailure: unknown = null;

const send = serveBatches<BackupBatch, BackupMessage>(runBatch);
const progress = gatherProgress(bytes => send({ type: 'progress', bytes }));

async function runBatch(batch: BackupBatch): Promise<void> {
  const results: ReadResult[] = [];
  startLsn = batch.startLsn;
  for (const task of batch.tasks) results.push(await readTask(task));
  if (batch.closesPack === true) {
    await closePack();
    await putting;
    if (putFailure !== null) throw putFailure;
  }
  progress.flush();
  send({ type: 'batch', results });
}

async function readTask(task: ReadTask): Promise<ReadResult> {
  const frames: StoredFrame[] = [];
  const damaged: DamagedPage[] = [];
  const { source } = task;
  if (typeof source !== 'string') {
    for (let at = 0; at < source.length; at += FRAME_BODY_BYTES) {
      const body = source.subarray(at, at + FRAME_BODY_BYTES);
      frames.push(await store(task, body, [at, body.length]));
    }
    return { id: task.id, frames, damaged };
  }
  const file = openIfThere(source);
  if (file === null) return { id: task.id, frames: null, damaged };
  try {
    if (task.selection !== undefined) return await readSelection(task, file, task.selection);
    for (let done = 0; done < task.length; ) {
      const wanted = Math.min(FRAME_BODY_BYTES, task.length - done);
      const got = readFully(file, {
        into: checker.buffer.subarray(0, wanted),
        position: task.offset + done,
        path: source,
      });
      if (got === 0) break;
      damaged.push(...checkPages(file, { task, position: task.offset + done, length: got, path: source }));
      frames.push(await store(task, checker.buffer.subarray(0, got), [task.offset + done, got]));
      progress.add(got);
      done += got;
      if (got < wanted) break;
    }
  } finally {
    closeSync(file);
  }
  return { id: task.id, frames, damaged };
}

/** What an incremental backup stores of a range. */
async function readSelection(task: ReadTask, file: number, selection: PageSelection): Promise<ReadResult> {
  const path = String(task.source);
  const found = await readSelected(task, selection, {
    buffer: checker.buffer,
    body: selected,
    blockSize: start.blockSize,
    store: (body, ranges) => store(task, body, ranges),
    read(position, length) {
      const got = readFully(file, { into: checker.buffer.subarray(0, length), position, path });
      progress.add(got);
      return { got, damaged: checkPages(file, { task, position, length: got, path }) };
    },
  });
  return {
    id: task.id,
    frames: found.frames.map(each => each.frame),
    damaged: found.damaged,
    ranges: found.frames.map(each => packRanges(each.ranges)),
    endsAt: found.endsAt,
  };
}

async function store(task: ReadTask, body: Uint8Array, ranges: Ranges): Promise<StoredFrame> {
  const carriesChecksums = task.firstBlock !== null && startLsn !== null && task.hashed !== true;
  const frame = pack.add(task.path, ranges, body, carriesChecksums ? 'unhashed' : undefined);
  if (pack.isFull) await closePack();
  // Lets the put of the last pack go on: its callbacks run on this thread.
  else await new Promise<void>(resolve => setImmediate(resolve));
  if (putFailure !== null) throw putFailure;
  return frame;
}

async function closePack(): Promise<void> {
  if (pack.isEmpty) return;
  const finished = pack.finish();
  await putting;
  if (putFailure !== null) throw putFailure;
  putting = storage.put(finished.path, finished.bytes).then(
    outcome => {
      assert(outcome === 'created', `pack ${finished.facts.id} exists already`);
      send({ type: 'pack', facts: finished.facts });
    },
    (error: unknown) => {
      putFailure = error;
    },
  );
  [buffer, spare] = [spare, buffer];
  pack = new PackWriter(target, buffer);
}

/**
 * Checks the pages just read. A bad one that was written after the backup began may be torn: the log's full-page image
 * replaces it, so it is taken as it is. Any other is read again, for it may have been caught in the middle of a write.
 */
function checkPages(
  file: number,
  read: {
    readonly task: ReadTask;
    readonly position: number;
    readonly length: number;
    readonly path: string;
  },
): DamagedPage[] {
  if (read.task.firstBlock === null || startLsn === null) return [];
  const from = startLsn;
  const { blockSize } = start;
  const firstBlock = read.task.firstBlock + (read.position - read.task.offset) / blockSize;
  const isDamaged = (page: number): boolean =>
    isNewPage(checker.buffer, page, blockSize) || pageLsn(checker.buffer, page, blockSize) < from;
  let bad = checker.check(read.length, firstBlock).filter(isDamaged);
  for (let attempt = 0; bad.length > 0 && attempt < REREADS; attempt += 1) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, REREAD_PAUSE_MS);
    for (const page of bad) {
      const into = checker.buffer.subarray(page * blockSize, (page + 1) * blockSize);
      readFully(file, { into, position: read.position + page * blockSize, path: read.path });
    }
    bad = checker.check(read.length, firstBlock).filter(isDamaged);
  }
  return bad.map(page => ({ path: read.task.path, block: firstBlock + page }));
}

/** Null when the file is gone: its relation was dropped since, and the log says so too. */
function openIfThere(path: string): number | null {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw fileError('read', path, error);
  }
}

function readFully(
  file: number,
  read: { readonly into: Uint8Array; readonly position: number; readonly path: string },
): number {
  let done = 0;
  try {
    while (done < read.into.length) {
      const got = readSync(file, read.into, done, read.into.length - done, read.position + done);
      if (got === 0) break;
      done += got;
    }
  } catch (error) {
    throw fileError('read', read.path, error);
  }
  return done;
}
