import { type FileHandle, open, readFile } from 'node:fs/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { AppError, assert, fileError, toErrorRecord } from '../base/errors.ts';
import { Keyring } from '../crypto/keyring.ts';
import { parseHistory } from '../operations/log/log-view.ts';
import { storeSegment } from '../operations/log/store-segment.ts';
import { BUFFER_MARGIN_BYTES, getLogFile, putLogFile, putLogPart } from '../repository/log-archive.ts';
import type { Repository } from '../repository/repository.ts';
import { openStorage } from '../storage/registry.ts';
import type {
  ArchiveAnswer,
  ArchiveOutcome,
  ArchiveRequest,
  ArchiveTask,
  ArchiveWorkerStart,
} from './archive-protocol.ts';

/** A thread of its own: reading a segment for its summary takes some 50 ms, in which nothing could be received. */
const start = workerData as ArchiveWorkerStart;
const port = parentPort;
assert(port !== null, 'this code runs as a worker thread');
const repository: Repository = {
  id: '',
  storage: openStorage(start.location),
  keyring: Keyring.fromWorker(start.keys),
};
let queue: Promise<void> = Promise.resolve();
/** For the segment and for the object made of it, kept: fresh ones of 16 MiB each time cost more than the reading. */
let buffers: { readonly segment: Uint8Array; readonly object: Uint8Array } | null = null;

port.on('message', ({ id, task }: ArchiveRequest) => {
  queue = queue.then(async () => {
    let answer: ArchiveAnswer;
    try {
      answer = { id, outcome: await run(task), error: null };
    } catch (error) {
      answer = { id, outcome: null, error: toErrorRecord(error) };
    }
    port.postMessage(answer);
  });
});

async function run(task: ArchiveTask): Promise<ArchiveOutcome> {
  const { owner, level } = start;
  const how = { level, inThisThread: true };
  switch (task.kind) {
    case 'segment': {
      const { bytes, object } = await readSegment(task.path);
      return await storeSegment(repository, { ...owner, ...how, name: task.segment, bytes, buffer: object });
    }
    case 'part': {
      const bytes = await readRange(task.path, task.from, task.to);
      return await putLogPart(repository, {
        ...owner,
        ...how,
        segment: task.segment,
        from: task.from,
        bytes,
      });
    }
    case 'history':
      return await putHistory(task.name, Buffer.from(task.content, 'utf8'));
    case 'compare': {
      const [mine, theirs] = await Promise.all(task.paths.map(readWhole));
      return Buffer.compare(mine!, theirs!) === 0 ? 'same' : 'different';
    }
  }
}

/**
 * Archives a history file. One that is there with other bytes may be the same history: the protocol sends it as text, and
 * a comment in it may be in any encoding.
 */
async function putHistory(name: string, bytes: Uint8Array): Promise<'stored' | 'same'> {
  const { owner, level } = start;
  try {
    return await putLogFile(repository, { ...owner, name, bytes, level });
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'LOG_CONFLICT') throw error;
    const present = await getLogFile(repository, owner, name);
    const steps = (content: Uint8Array): string =>
      parseHistory(Buffer.from(content).toString('utf8'), 0)
        .map(step => `${step.timeline} ${step.begin}`)
        .join();
    if (present !== null && steps(present) === steps(bytes)) return 'same';
    throw error;
  }
}

async function readSegment(path: string): Promise<{ bytes: Uint8Array; object: Uint8Array }> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    if (buffers?.segment.length !== size)
      buffers = { segment: new Uint8Array(size), object: new Uint8Array(size + BUFFER_MARGIN_BYTES) };
    const { segment: bytes, object } = buffers;
    await readFully(file, bytes, 0);
    return { bytes, object };
  } catch (error) {
    throw fileError('read', path, error);
  }
}

async function readWhole(path: string): Promise<Uint8Array> {
  return await readFile(path).catch((error: unknown) => {
    throw fileError('read', path, error);
  });
}

async function readRange(path: string, from: number, to: number): Promise<Uint8Array> {
  try {
    await using file = await open(path, 'r');
    const bytes = new Uint8Array(to - from);
    await readFully(file, bytes, from);
    return bytes;
  } catch (error) {
    throw fileError('read', path, error);
  }
}

async function readFully(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, done, bytes.length - done, position + done);
    if (bytesRead === 0) throw new Error('it is shorter than what was received');
    done += bytesRead;
  }
}
