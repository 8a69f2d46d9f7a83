import type { OnEvent } from '../../base/events.ts';
import { workerUrl } from '../../base/worker-url.ts';
import type { DirLine, PackFacts } from '../../repository/manifest.ts';
import type { ManifestWriter } from '../../repository/manifest-writer.ts';
import { startWorkerPool, type WorkerPool } from '../worker-pool.ts';
import type { BackupBatch, BackupMessage, BackupWorkerStart, ReadTask } from './backup-protocol.ts';
import { type CopiedLine, FileAssembler, type SourceFile } from './file-assembler.ts';
import { rangeBytes } from './ranges.ts';

/** Small files go to a worker by the dozen. */
const BATCH_BYTES = 8 * 1024 * 1024;
const BATCH_TASKS = 64;
const PROGRESS_EVERY_MS = 100;

/** The threads of a backup, which may have nothing to do yet. */
export interface BackupThreads extends AsyncDisposable {
  readonly pool: WorkerPool<BackupBatch>;
  readonly blockSize: number;
  /** Who gets what they say. */
  listen(listener: (message: BackupMessage) => void): void;
}

/** Starts the threads: they take some time to load, which the server takes for its checkpoint too. */
export function startBackupThreads(options: {
  readonly start: BackupWorkerStart;
  readonly workers: number;
  readonly signal: AbortSignal;
}): BackupThreads {
  let listener: ((message: BackupMessage) => void) | null = null;
  const pool = startWorkerPool<BackupWorkerStart, BackupBatch, BackupMessage>({
    url: workerUrl('backup-worker', import.meta.url),
    count: options.workers,
    start: options.start,
    signal: options.signal,
    onMessage: message => {
      listener?.(message);
      return message.type === 'batch' ? 'batch-done' : 'more';
    },
  });
  return {
    pool,
    blockSize: options.start.blockSize,
    listen(given) {
      listener = given;
    },
    [Symbol.asyncDispose]: () => pool.terminate(),
  };
}

/** What the threads of a running backup are given, and what they have delivered. */
export interface FileCopier {
  /** Hands a file to the threads; waits while they have enough to do. */
  copy(file: SourceFile): Promise<void>;
  /** A directory, which has no content to read. */
  addDirectory(path: string, mode: number): void;
  /** Waits until everything handed over has been read. */
  settle(): Promise<void>;
  /** Has everything handed over stored, without waiting for it. */
  store(): Promise<void>;
  /** Waits until everything handed over is durable in the storage and in the manifest, and ends the threads. */
  finish(): Promise<FileAssembler>;
}

/** Begins to copy. `totalBytes` is for the progress alone. */
export function startFileCopier(options: {
  readonly threads: BackupThreads;
  /** Null when the instance has no page checksums. */
  readonly startLsn: bigint | null;
  readonly manifest: ManifestWriter;
  readonly totalBytes: number;
  /** What files may refer to without being read. */
  readonly parentPacks: readonly PackFacts[];
  readonly onEvent: OnEvent;
}): FileCopier {
  const { startLsn } = options;
  const { pool, blockSize } = options.threads;
  const assembler = new FileAssembler(blockSize, options.parentPacks);
  const progress = startProgress(options);
  const again: SourceFile[] = [];
  const lines = writeInOrder(options.manifest);
  options.threads.listen(message => {
    if (message.type === 'progress') progress.add(message.bytes);
    if (message.type === 'pack') assembler.addPack(message.facts);
    if (message.type !== 'batch') return;
    for (const result of message.results) {
      const outcome = assembler.add(result);
      if (outcome !== null && 'line' in outcome) lines.write(outcome.line);
      if (outcome !== null && 'again' in outcome) again.push(outcome.again);
    }
    lines.throwIfFailed();
  });
  let batch: ReadTask[] = [];
  let batchBytes = 0;
  const flush = async (): Promise<void> => {
    if (batch.length === 0) return;
    const tasks = batch;
    batch = [];
    batchBytes = 0;
    await pool.submit({ tasks, startLsn });
  };
  const copy = async (file: SourceFile, ranges?: 'one-range'): Promise<void> => {
    const tasks = assembler.tasksOf(file, ranges);
    if (tasks.length === 0) lines.write(assembler.unchanged(file));
    for (const task of tasks) {
      batch.push(task);
      batchBytes += bytesOf(task);
      if (batchBytes >= BATCH_BYTES || batch.length >= BATCH_TASKS) await flush();
    }
  };
  const settle = async (): Promise<void> => {
    await flush();
    await pool.drain();
    if (again.length === 0) return;
    for (const file of again.splice(0)) await copy(file, 'one-range');
    await settle();
  };
  return {
    copy: file => copy(file),
    addDirectory: (path, mode) => lines.write({ t: 'dir', p: path, m: mode }),
    settle,
    async store() {
      await flush();
      pool.broadcast({ tasks: [], startLsn, closesPack: true });
    },
    async finish() {
      await settle();
      await pool.finish({ tasks: [], startLsn, closesPack: true });
      await lines.written();
      progress.end();
      return assembler;
    },
  };
}

/** Writes lines in their order, while others are made. */
function writeInOrder(manifest: ManifestWriter): {
  write(line: CopiedLine | DirLine): void;
  throwIfFailed(): void;
  written(): Promise<void>;
} {
  let writing: Promise<void> = Promise.resolve();
  let failure: unknown = null;
  const throwIfFailed = (): void => {
    if (failure !== null) throw failure;
  };
  return {
    write(line) {
      writing = writing
        .then(() => manifest.add(line))
        .catch((error: unknown) => {
          failure ??= error;
        });
    },
    throwIfFailed,
    async written() {
      await writing;
      throwIfFailed();
    },
  };
}

/** What a task makes a thread read. */
function bytesOf(task: ReadTask): number {
  return task.selection?.kind === 'ranges' ? rangeBytes(task.selection.ranges) : task.length;
}

function startProgress(options: { readonly totalBytes: number; readonly onEvent: OnEvent }): {
  add(bytes: number): void;
  end(): void;
} {
  let doneBytes = 0;
  let toldAt = 0;
  const tell = (totalBytes: number): void =>
    options.onEvent({ type: 'progress', step: 'copy', doneBytes, totalBytes });
  return {
    add(bytes) {
      doneBytes += bytes;
      const now = performance.now();
      if (now - toldAt < PROGRESS_EVERY_MS) return;
      toldAt = now;
      tell(Math.max(options.totalBytes, doneBytes));
    },
    end: () => tell(doneBytes),
  };
}
