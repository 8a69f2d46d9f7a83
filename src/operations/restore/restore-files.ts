import { closeSync } from 'node:fs';
import type { OnEvent } from '../../base/events.ts';
import { workerUrl } from '../../base/worker-url.ts';
import type { Chunk, ConfigLine, FileLine, ManifestLine } from '../../repository/manifest.ts';
import { type Manifest, manifestLines, packPathOf } from '../../repository/manifest-reader.ts';
import type { Repository } from '../../repository/repository.ts';
import type { StorageLocation } from '../../storage/storage.ts';
import { startWorkerPool, type WorkerPool } from '../worker-pool.ts';
import { createFile, makeDirectory, type Owner } from './new-files.ts';
import type { RestoreBatch, RestoreMessage, RestoreTask, RestoreWorkerStart } from './restore-protocol.ts';

export interface RestoreFilesRequest {
  readonly manifest: Manifest;
  /** Where a line of the manifest goes; null leaves it out. */
  readonly placeOf: (line: ManifestLine) => string | null;
  readonly owner: Owner;
  readonly workers: number;
}

export interface RestoredFiles {
  readonly files: number;
  readonly bytes: number;
}

/** Two threads that write one file wait for each other's lock on it: 16 MiB took a sixth longer than this. */
const RANGE_BYTES = 256 * 1024 * 1024;
const BATCH_BYTES = 8 * 1024 * 1024;
const BATCH_TASKS = 128;
const PROGRESS_EVERY_MS = 100;

/** The threads that fetch, open and write, and the batches on their way to them. */
export function startRestorePool(
  source: {
    readonly repository: Repository;
    readonly location: StorageLocation;
    readonly manifest: Manifest;
    readonly workers: number;
  },
  onMessage: (message: RestoreMessage) => void,
  signal: AbortSignal,
): WorkerPool<RestoreBatch> {
  const { repository, manifest } = source;
  return startWorkerPool<RestoreWorkerStart, RestoreBatch, RestoreMessage>({
    url: workerUrl('restore-worker', import.meta.url),
    count: source.workers,
    start: {
      location: source.location,
      keys: repository.keyring.toWorker(),
      log: { instance: manifest.backup.instance, systemIdentifier: manifest.backup.systemIdentifier },
      packs: manifest.packs.map(pack => ({
        path: packPathOf(manifest, pack),
        id: pack.id,
        generation: pack.generation,
      })),
    },
    signal,
    onMessage: message => {
      onMessage(message);
      return message.type === 'batch' ? 'batch-done' : 'more';
    },
  });
}

/** Writes every file of a backup, in parallel. Nothing that exists is overwritten. */
export async function restoreFiles(
  source: { readonly repository: Repository; readonly location: StorageLocation },
  request: RestoreFilesRequest,
  options: { readonly signal: AbortSignal; readonly onEvent: OnEvent },
): Promise<RestoredFiles> {
  const { manifest, owner } = request;
  const onProgress = progressTeller('restore-files', manifest.backup.sizeBytes, options.onEvent);
  const pool = startRestorePool(
    { ...source, manifest, workers: request.workers },
    message => {
      if (message.type === 'progress') onProgress(message.bytes);
    },
    options.signal,
  );
  const batches = batchTasks(pool);
  let files = 0;
  let bytes = 0;
  try {
    for await (const line of manifestLines(source.repository, manifest, { signal: options.signal })) {
      const target = request.placeOf(line);
      if (target === null) continue;
      if (line.t === 'dir') {
        makeDirectory(target, { owner, mode: line.m });
        continue;
      }
      files += 1;
      bytes += line.s;
      for (const task of tasksOf(line, target, owner)) await batches.add(task, line.s);
    }
    await batches.flush();
    await pool.finish({ tasks: [] });
  } catch (error) {
    await pool.terminate();
    throw error;
  }
  return { files, bytes };
}

/** Collects tasks into batches worth a message. */
export function batchTasks(pool: WorkerPool<RestoreBatch>): {
  add(task: RestoreTask, bytes: number): Promise<void>;
  flush(): Promise<void>;
} {
  let tasks: RestoreTask[] = [];
  let pendingBytes = 0;
  const flush = async (): Promise<void> => {
    if (tasks.length === 0) return;
    const full = tasks;
    tasks = [];
    pendingBytes = 0;
    await pool.submit({ tasks: full });
  };
  return {
    flush,
    async add(task, bytes) {
      tasks.push(task);
      pendingBytes += bytes;
      if (pendingBytes >= BATCH_BYTES || tasks.length >= BATCH_TASKS) await flush();
    },
  };
}

/** Tells the bytes done at most ten times a second. */
export function progressTeller(step: string, totalBytes: number, onEvent: OnEvent): (bytes: number) => void {
  let doneBytes = 0;
  let toldAt = 0;
  return bytes => {
    doneBytes += bytes;
    const now = performance.now();
    if (now - toldAt < PROGRESS_EVERY_MS && doneBytes < totalBytes) return;
    toldAt = now;
    onEvent({ type: 'progress', step, doneBytes, totalBytes: Math.max(totalBytes, doneBytes) });
  };
}

/**
 * Cuts a large file, so that the threads end together. It is created here, at its full size; smaller ones are created by
 * the thread that writes them (measured: creating a thousand files one after the other took as long as their content).
 */
function tasksOf(line: FileLine | ConfigLine, target: string, owner: Owner): RestoreTask[] {
  const common = { kind: 'chunks', path: line.p, target } as const;
  if (line.s <= RANGE_BYTES) {
    return [{ ...common, offset: 0, chunks: line.c, create: { sizeBytes: 0, mode: line.m, owner } }];
  }
  closeSync(createFile(target, { sizeBytes: line.s, mode: line.m, owner }));
  const tasks: RestoreTask[] = [];
  let chunks: Chunk[] = [];
  let from = 0;
  let at = 0;
  for (const chunk of line.c) {
    chunks.push(chunk);
    at += chunk[0];
    if (at - from < RANGE_BYTES) continue;
    tasks.push({ ...common, offset: from, chunks, create: null });
    chunks = [];
    from = at;
  }
  if (chunks.length > 0) tasks.push({ ...common, offset: from, chunks, create: null });
  return tasks;
}
