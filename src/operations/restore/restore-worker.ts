import { hash } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { AppError, assert, fileError } from '../../base/errors.ts';
import { Keyring } from '../../crypto/keyring.ts';
import { type FrameCipher, HEADER_BYTES } from '../../crypto/sealed-frame.ts';
import { logPath } from '../../repository/layout.ts';
import { getLogFile } from '../../repository/log-archive.ts';
import type { Chunk } from '../../repository/manifest.ts';
import { bodyHash } from '../../repository/pack-writer.ts';
import { cipherOf, missing, openFrame, openSealedBytes } from '../../repository/sealed-reader.ts';
import { openStorage } from '../../storage/registry.ts';
import { serveBatches } from '../worker-thread.ts';
import type {
  ObjectProblem,
  PackAddress,
  RestoreBatch,
  RestoreMessage,
  RestoreTask,
  RestoreWorkerStart,
} from './restore-protocol.ts';

/**
 * A thread of a restore or a verification: fetches runs of frames, opens, decompresses, compares their hashes and writes,
 * all by itself. The next run is fetched while one is worked on.
 */
const start = workerData as RestoreWorkerStart;

const storage = openStorage(start.location);
const keyring = Keyring.fromWorker(start.keys);
const ciphers = new Map<number, FrameCipher>();
const CIPHERS_KEPT = 64;
/** How much is fetched in one request. */
const RUN_BYTES = 8 * 1024 * 1024;

const send = serveBatches<RestoreBatch, RestoreMessage>(runBatch);

async function runBatch(batch: RestoreBatch): Promise<void> {
  const problems: ObjectProblem[] = [];
  for (const task of batch.tasks) {
    if (task.kind === 'log') await writeLog(task);
    else if (task.kind === 'check') problems.push(...(await checkChunks(task)));
    else if (task.kind === 'pack') problems.push(...(await checkPack(task)));
    else if (task.kind === 'log-check') problems.push(...(await checkLog(task.name)));
    else await writeChunks(task);
  }
  send({ type: 'batch', problems });
}

/** Frames that lie side by side in one pack. */
interface Run {
  readonly pack: number;
  readonly offset: number;
  length: number;
  readonly chunks: Chunk[];
}

async function writeChunks(task: Extract<RestoreTask, { kind: 'chunks' }>): Promise<void> {
  const file = openTarget(task.target);
  try {
    let at = task.offset;
    for await (const { run, bytes } of fetchRuns(runsOf(task.chunks))) {
      for (const chunk of run.chunks) {
        const body = openChunk(run, chunk, bytes).subarray(chunk[6], chunk[6] + chunk[0]);
        writeFully(file, { bytes: body, position: at, path: task.target });
        at += body.length;
        send({ type: 'progress', bytes: body.length });
      }
    }
  } finally {
    closeSync(file);
  }
}

/** Opens every frame and goes on after a bad one, so that a verification names all that is damaged. */
async function checkChunks(task: Extract<RestoreTask, { kind: 'check' }>): Promise<ObjectProblem[]> {
  const problems: ObjectProblem[] = [];
  const report = (object: string, error: unknown): void => {
    if (!(error instanceof AppError) || error.code !== 'CORRUPT') throw error;
    problems.push({ path: task.path, object, message: error.message });
  };
  for (const run of runsOf(task.chunks)) {
    let bytes: Uint8Array;
    try {
      bytes = await fetchRun(run);
    } catch (error) {
      report(packOf(run.pack).path, error);
      continue;
    }
    for (const chunk of run.chunks) {
      try {
        openChunk(run, chunk, bytes);
      } catch (error) {
        report(packOf(run.pack).path, error);
      }
      send({ type: 'progress', bytes: chunk[0] });
    }
  }
  return problems;
}

async function checkPack(task: Extract<RestoreTask, { kind: 'pack' }>): Promise<ObjectProblem[]> {
  const { path } = packOf(task.pack);
  const stored = await storage.get(path);
  send({ type: 'progress', bytes: task.sizeBytes });
  if (stored === null)
    return [{ object: path, message: `object '${path}' is missing (a pack of this backup)` }];
  const problems: ObjectProblem[] = [];
  if (stored.length !== task.sizeBytes || hash('sha256', stored, 'hex') !== task.sha256) {
    problems.push({
      object: path,
      message: `object '${path}' is damaged: its bytes are not those the manifest was made for`,
    });
  }
  try {
    const object = openSealedBytes(stored, { path, kind: 'pack', keyring });
    let offset = HEADER_BYTES;
    for (const [number, [length, raw, , , digest]] of object.footer.frames.entries()) {
      const body = openFrame(object.cipher, { number, raw, path }, stored.subarray(offset, offset + length));
      if (bodyHash(body) !== digest)
        problems.push({
          object: path,
          message: `object '${path}' is damaged: frame ${number} has another hash`,
        });
      offset += length;
    }
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    problems.push({ object: path, message: error.message });
  }
  return problems;
}

async function checkLog(name: string): Promise<ObjectProblem[]> {
  const path = logPath(start.log, name);
  try {
    if ((await getLogFile({ id: '', storage, keyring }, start.log, name)) !== null) return [];
    return [{ object: path, message: `object '${path}' is missing` }];
  } catch (error) {
    if (!(error instanceof AppError) || !['CORRUPT', 'UNSUPPORTED', 'KEY_WRONG'].includes(error.code))
      throw error;
    return [{ object: path, message: error.message }];
  }
}

async function writeLog(task: Extract<RestoreTask, { kind: 'log' }>): Promise<void> {
  const bytes = await getLogFile({ id: '', storage, keyring }, start.log, task.name);
  if (bytes === null) throw new AppError('LOG_NOT_FOUND', `log file '${task.name}' is not archived any more`);
  const file = openTarget(task.target);
  try {
    writeFully(file, { bytes, position: 0, path: task.target });
  } finally {
    closeSync(file);
  }
  send({ type: 'progress', bytes: bytes.length });
}

function runsOf(chunks: readonly Chunk[]): Run[] {
  const runs: Run[] = [];
  for (const chunk of chunks) {
    const [, pack, , offset, stored] = chunk;
    const run = runs.at(-1);
    if (
      run !== undefined &&
      run.pack === pack &&
      run.offset + run.length === offset &&
      run.length + stored <= RUN_BYTES
    ) {
      run.chunks.push(chunk);
      run.length += stored;
    } else {
      runs.push({ pack, offset, length: stored, chunks: [chunk] });
    }
  }
  return runs;
}

async function* fetchRuns(
  runs: readonly Run[],
): AsyncGenerator<{ readonly run: Run; readonly bytes: Uint8Array }, void, undefined> {
  let next = runs[0] === undefined ? null : fetchRun(runs[0]);
  // A failed fetch is thrown where it is awaited; until then it must not count as unhandled.
  next?.catch(() => undefined);
  for (const [index, run] of runs.entries()) {
    const bytes = await next;
    assert(bytes !== null, 'a run is fetched before it is used');
    const following = runs[index + 1];
    next = following === undefined ? null : fetchRun(following);
    next?.catch(() => undefined);
    yield { run, bytes };
  }
}

async function fetchRun(run: Run): Promise<Uint8Array> {
  const { path } = packOf(run.pack);
  const bytes = await storage.get(path, { offset: run.offset, length: run.length });
  if (bytes === null) throw missing(path, 'a pack of this backup');
  if (bytes.length !== run.length)
    throw new AppError('CORRUPT', `object '${path}' is damaged: it is cut off`, {
      details: { object: path },
    });
  return bytes;
}

function openChunk(run: Run, chunk: Chunk, bytes: Uint8Array): Uint8Array {
  const [, pack, number, offset, stored, raw, , digest] = chunk;
  const { path } = packOf(pack);
  const body = openFrame(
    cipherOfPack(pack),
    { number, raw, path },
    bytes.subarray(offset - run.offset, offset - run.offset + stored),
  );
  if (bodyHash(body) !== digest)
    throw new AppError(
      'CORRUPT',
      `object '${path}' is damaged: frame ${number} is not what the manifest says`,
      { details: { object: path } },
    );
  return body;
}

function cipherOfPack(pack: number): FrameCipher {
  const known = ciphers.get(pack);
  if (known !== undefined) return known;
  const { path, id, generation } = packOf(pack);
  const cipher = cipherOf(keyring, { path, kind: 'pack', generation, objectId: Buffer.from(id, 'hex') });
  if (ciphers.size >= CIPHERS_KEPT) ciphers.clear();
  ciphers.set(pack, cipher);
  return cipher;
}

function packOf(pack: number): PackAddress {
  const address = start.packs[pack];
  assert(address !== undefined, `pack number ${pack} is not in the manifest`);
  return address;
}

function openTarget(path: string): number {
  try {
    return openSync(path, 'r+');
  } catch (error) {
    throw fileError('write', path, error);
  }
}

function writeFully(
  file: number,
  write: { readonly bytes: Uint8Array; readonly position: number; readonly path: string },
): void {
  try {
    for (let done = 0; done < write.bytes.length; ) {
      done += writeSync(file, write.bytes, done, write.bytes.length - done, write.position + done);
    }
  } catch (error) {
    throw fileError('write', write.path, error);
  }
}
