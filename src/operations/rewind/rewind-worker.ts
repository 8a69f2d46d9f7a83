import { closeSync, constants, fchmodSync, fchownSync, ftruncateSync, openSync, readSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { threadId, workerData } from 'node:worker_threads';
import { fileError, systemCode } from '../../base/errors.ts';
import { Keyring } from '../../crypto/keyring.ts';
import { createPageChecker } from '../../engines/postgres/page-checksum.ts';
import type { DamagedPage } from '../../repository/manifest.ts';
import { openStorage } from '../../storage/registry.ts';
import { eachRange } from '../backup/ranges.ts';
import { makeDirectory } from '../restore/new-files.ts';
import { writeFully } from '../restore/write-fully.ts';
import { gatherProgress, serveBatches } from '../worker-thread.ts';
import { readSpans } from './byte-ranges.ts';
import { frameSource } from './frame-source.ts';
import { type KeptWriter, openKeptWriter } from './kept-pages.ts';
import { piecesBytes } from './pieces.ts';
import type { Piece, RewindBatch, RewindMessage, RewindTask, RewindWorkerStart } from './rewind-protocol.ts';

/**
 * A thread of a rewind: keeps pages of the live files, writes pages of the backup over them, compares checksums. What it
 * works on nobody else does.
 */
const start = workerData as RewindWorkerStart;

const BUFFER_BYTES = 4 * 1024 * 1024;
const checker = createPageChecker(BUFFER_BYTES, start.blockSize);
const source = frameSource({
  storage: openStorage(start.location),
  keyring: Keyring.fromWorker(start.keys),
  packs: start.packs,
});

const send = serveBatches<RewindBatch, RewindMessage>(runBatch);
const progress = gatherProgress(bytes => send({ type: 'progress', bytes }));
let kept: KeptWriter | null = null;

type Task<K extends RewindTask['kind']> = Extract<RewindTask, { kind: K }>;

async function runBatch(batch: RewindBatch): Promise<void> {
  const count = { keptBytes: 0, writtenBytes: 0, copiedBytes: 0, checkedPages: 0 };
  const damaged: DamagedPage[] = [];
  const fetchedBefore = source.fetchedBytes;
  for (const task of batch.tasks) {
    if (task.kind === 'keep') count.keptBytes += keep(task);
    else if (task.kind === 'check') count.checkedPages += check(task, damaged);
  }
  const writes = batch.tasks.filter(task => task.kind === 'write');
  if (writes.length > 0) {
    const { writtenBytes, copiedBytes } = await write(writes);
    count.writtenBytes += writtenBytes;
    count.copiedBytes += copiedBytes;
  }
  if (batch.last === true) {
    kept?.close();
    kept = null;
  }
  progress.flush();
  send({ type: 'batch', ...count, fetchedBytes: source.fetchedBytes - fetchedBefore, damaged });
}

function keep(task: Task<'keep'>): number {
  kept ??= openKeptWriter(join(start.safety, `pages-${threadId}`));
  const file = openExisting(task.source, constants.O_RDONLY);
  let bytes = 0;
  try {
    for (const { at, length, ranges } of readSpans(task.ranges, BUFFER_BYTES)) {
      const got = readAt(file, task.source, checker.buffer, { length, position: at });
      for (const [offset, wanted] of ranges) {
        const there = Math.min(wanted, at + got - offset);
        if (there <= 0) break;
        kept.add(task.path, offset, checker.buffer.subarray(offset - at, offset - at + there));
        bytes += there;
      }
    }
  } finally {
    closeSync(file);
  }
  progress.add(bytes);
  return bytes;
}

interface Placed {
  readonly task: Task<'write'>;
  readonly chunk: Piece['chunk'];
  readonly end: number;
  readonly piece: Piece;
}

/** Makes the files as long as they are to be, then writes in the order in which the pieces lie in the packs. */
async function write(
  tasks: readonly Task<'write'>[],
): Promise<{ readonly writtenBytes: number; readonly copiedBytes: number }> {
  const files = new Map<Task<'write'>, number>();
  let writtenBytes = 0;
  let copiedBytes = 0;
  try {
    for (const task of tasks) files.set(task, openTarget(task));
    const placed: Placed[] = [];
    for (const task of tasks) {
      const failed = copyPieces(task, files.get(task)!);
      copiedBytes += piecesBytes(task.copies) - piecesBytes(failed);
      for (const piece of [...task.pieces, ...failed])
        placed.push({ task, piece, chunk: piece.chunk, end: piece.start + piece.length });
    }
    await source.each(placed, (body, { task, piece }) => {
      const file = files.get(task)!;
      writeFully(file, body.subarray(piece.start, piece.start + piece.length), {
        position: piece.at,
        path: task.target,
      });
      writtenBytes += piece.length;
      progress.add(piece.length);
    });
  } finally {
    for (const file of files.values()) closeSync(file);
  }
  return { writtenBytes, copiedBytes };
}

/** Copies pages from the file that was put aside. @returns those that are not to be had there */
function copyPieces(task: Task<'write'>, target: number): Piece[] {
  const { copies, kept } = task;
  if (copies.length === 0) return [];
  const failed: Piece[] = [];
  const source = openExisting(kept.path, constants.O_RDONLY);
  try {
    for (const span of spansOf(copies)) {
      const { at: position, length } = span;
      const got = readAt(source, kept.path, checker.buffer, { length, position });
      const damaged = damagedPages(kept.firstBlock, position, got);
      for (const piece of span.pieces) {
        const from = piece.at - position;
        const end = from + piece.length;
        const isSound = end <= got && !damaged.some(page => page + start.blockSize > from && page < end);
        if (!isSound) {
          failed.push(piece);
          continue;
        }
        writeFully(target, checker.buffer.subarray(from, end), { position: piece.at, path: task.target });
        progress.add(piece.length);
      }
    }
  } finally {
    closeSync(source);
  }
  return failed;
}

interface Span {
  readonly at: number;
  length: number;
  readonly pieces: Piece[];
}

/** What is read at once, with what lies between the pieces: most are single pages near each other. */
const SPAN_BYTES = 1024 * 1024;

/** Pieces in their order in the file, joined to spans. */
function spansOf(pieces: readonly Piece[]): Span[] {
  const spans: Span[] = [];
  for (const piece of pieces) {
    const span = spans.at(-1);
    const end = piece.at + piece.length;
    if (span !== undefined && piece.at >= span.at && end - span.at <= SPAN_BYTES) {
      span.length = end - span.at;
      span.pieces.push(piece);
    } else spans.push({ at: piece.at, length: piece.length, pieces: [piece] });
  }
  return spans;
}

/** Where in the buffer, which holds `bytes` from `at` of a file on, pages begin that do not match their checksums. */
function damagedPages(firstBlock: number | null, at: number, bytes: number): number[] {
  const whole = bytes - (bytes % start.blockSize);
  if (firstBlock === null || whole === 0) return [];
  return [...checker.check(whole, firstBlock + at / start.blockSize)].map(page => page * start.blockSize);
}

function openTarget(task: Task<'write'>): number {
  const { create, target } = task;
  const file = create === null ? openExisting(target, constants.O_RDWR) : openFresh(target, create);
  try {
    ftruncateSync(file, task.sizeBytes);
    return file;
  } catch (error) {
    closeSync(file);
    throw fileError('write', target, error);
  }
}

function openFresh(target: string, create: NonNullable<Task<'write'>['create']>): number {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;
  try {
    const file = openOrMake(target, flags, create);
    fchmodSync(file, (create.mode & 0o640) | 0o600);
    if (create.owner !== null) fchownSync(file, create.owner.uid, create.owner.gid);
    return file;
  } catch (error) {
    throw fileError('create', target, error);
  }
}

function openOrMake(target: string, flags: number, create: NonNullable<Task<'write'>['create']>): number {
  try {
    return openSync(target, flags, 0o600);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    makeDirectory(dirname(target), { owner: create.owner, mode: 0o700 });
    return openSync(target, flags, 0o600);
  }
}

/** Never through a link: the directory may belong to another user than this program's. */
function openExisting(path: string, flags: number): number {
  try {
    return openSync(path, flags | constants.O_NOFOLLOW);
  } catch (error) {
    throw fileError('open', path, error);
  }
}

function check(task: Task<'check'>, damaged: DamagedPage[]): number {
  let file: number;
  try {
    file = openSync(task.source, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return 0;
    throw fileError('read', task.source, error);
  }
  let pages = 0;
  try {
    const ranges = task.ranges ?? [0, Number.MAX_SAFE_INTEGER];
    for (const [offset, length] of eachRange(ranges)) {
      for (let done = 0; done < length; ) {
        const wanted = Math.min(BUFFER_BYTES, length - done);
        const got = readAt(file, task.source, checker.buffer, { length: wanted, position: offset + done });
        const first = task.firstBlock + (offset + done) / start.blockSize;
        for (const bad of checker.check(got, first)) damaged.push({ path: task.path, block: first + bad });
        pages += Math.floor(got / start.blockSize);
        if (got < wanted) break;
        done += got;
      }
    }
  } finally {
    closeSync(file);
  }
  return pages;
}

/** As much as there is, up to `length`. */
function readAt(
  file: number,
  path: string,
  buffer: Uint8Array,
  range: { readonly length: number; readonly position: number },
): number {
  let done = 0;
  try {
    while (done < range.length) {
      const got = readSync(file, buffer, done, range.length - done, range.position + done);
      if (got === 0) break;
      done += got;
    }
  } catch (error) {
    throw fileError('read', path, error);
  }
  return done;
}
