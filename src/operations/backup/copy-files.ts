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

/** The threads of a running backup, and what they have delivered. */
export interface FileCopier {
  /** Hands a file to the threads; waits while they have enough to do. */
  copy(file: SourceFile): Promise<void>;
  /** Hands over what still waits for a batch to be full. */
  flush(): Promise<void>;
  /** A directory, which has no content to read. */
  addDirectory(path: string, mode: number): void;
  /** Waits until everything handed over is durable in the storage and in the manifest, and ends the threads. */
  finish(): Promise<FileAssembler>;
  terminate(): Promise<void>;
}

/** Starts the threads of a backup. `totalBytes` is for the progress alone. */
export function startFileCopier(options: {
  readonly start: BackupWorkerStart;
  readonly workers: number;
  readonly manifest: ManifestWriter;
  readonly totalBytes: number;
  /** What files may refer to without being read. */
  readonly parentPacks: readonly PackFacts[];
  readonly signal: AbortSignal;
  readonly onEvent: OnEvent;
}): FileCopier {
  const assembler = new FileAssembler(options.start.blockSize, options.parentPacks);
  const progress = startProgress(options);
  const again: SourceFile[] = [];
  let writing: Promise<void> = Promise.resolve();
  let writeFailure: unknown = null;
  const write = (line: CopiedLine | DirLine): void => {
    writing = writing
      .then(() => options.manifest.add(line))
      .catch((error: unknown) => {
        writeFailure ??= error;
      });
  };
  const pool: WorkerPool<BackupBatch> = startWorkerPool<BackupWorkerStart, BackupBatch, BackupMessage>({
    url: workerUrl('backup-worker', import.meta.url),
    count: options.workers,
    start: options.start,
    signal: options.signal,
    onMessage: message => {
      if (message.type === 'progress') progress.add(message.bytes);
      if (message.type === 'pack') assembler.addPack(message.facts);
      if (message.type !== 'batch') return 'more';
      for (const result of message.results) {
        const outcome = assembler.add(result);
        if (outcome !== null && 'line' in outcome) write(outcome.line);
        if (outcome !== null && 'again' in outcome) again.push(outcome.again);
      }
      if (writeFailure !== null) throw writeFailure;
      return 'batch-done';
    },
  });
  let batch: ReadTask[] = [];
  let batchBytes = 0;
  const flush = async (): Promise<void> => {
    if (batch.length === 0) return;
    const tasks = batch;
    batch = [];
    batchBytes = 0;
    await pool.submit({ tasks });
  };
  const copy = async (file: SourceFile, ranges?: 'one-range'): Promise<void> => {
    const tasks = assembler.tasksOf(file, ranges);
    if (tasks.length === 0) write(assembler.unchanged(file));
    for (const task of tasks) {
      batch.push(task);
      batchBytes += bytesOf(task);
      if (batchBytes >= BATCH_BYTES || batch.length >= BATCH_TASKS) await flush();
    }
  };
  return {
    copy: file => copy(file),
    flush,
    addDirectory: (path, mode) => write({ t: 'dir', p: path, m: mode }),
    async finish() {
      await flush();
      await pool.drain();
      for (const file of again.splice(0)) await copy(file, 'one-range');
      await flush();
      await pool.finish({ tasks: [], last: true });
      await writing;
      if (writeFailure !== null) throw writeFailure;
      progress.end();
      return assembler;
    },
    async terminate() {
      await pool.terminate();
      await writing;
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
