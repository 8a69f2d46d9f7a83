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
  /** All of every file unless given. */
  readonly part?: PartOfBackup;
}

/** Whether any of the bytes `[from, to)` of a file are needed. */
export type NeededBytes = (from: number, to: number) => boolean;

/** The part of a backup that is written. Every file of it gets its full size; what is not needed is a hole, and reads as zeros. */
export interface PartOfBackup {
  /** Null: all of the file at this path. */
  needs(path: string): NeededBytes | null;
  /** How much that is. */
  readonly bytes: number;
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
  const { manifest, owner, part } = request;
  const totalBytes = part?.bytes ?? manifest.backup.sizeBytes;
  const onProgress = progressTeller('restore-files', totalBytes, options.onEvent);
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
      const needs = line.t === 'file' ? (part?.needs(line.p) ?? null) : null;
      const sizeBytes = neededSize(line, needs);
      if (sizeBytes > 0 || line.s === 0) files += 1;
      bytes += sizeBytes;
      for (const task of tasksOf(line, { target, owner, needs })) await batches.add(task, sizeBytes);
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

/** How many bytes of a file are written: its pieces that hold anything needed, as a whole. */
export function neededSize({ s, c }: Pick<FileLine, 's' | 'c'>, needs: NeededBytes | null): number {
  return needs === null ? s : neededRuns(c, needs).reduce((sum, run) => sum + run.sizeBytes, 0);
}

/** Pieces of a file, one behind the other. */
interface NeededRun {
  /** Where in the file the first one begins. */
  readonly offset: number;
  readonly chunks: Chunk[];
  sizeBytes: number;
}

/** The pieces that hold anything needed, in runs of at most a range. */
function neededRuns(chunks: readonly Chunk[], needs: NeededBytes): NeededRun[] {
  const runs: NeededRun[] = [];
  let at = 0;
  for (const chunk of chunks) {
    const from = at;
    at += chunk[0];
    if (!needs(from, at)) continue;
    const last = runs.at(-1);
    if (last !== undefined && last.offset + last.sizeBytes === from && last.sizeBytes < RANGE_BYTES) {
      last.chunks.push(chunk);
      last.sizeBytes += chunk[0];
    } else runs.push({ offset: from, chunks: [chunk], sizeBytes: chunk[0] });
  }
  return runs;
}

/**
 * Cuts a large file, so that the threads end together. It is created here, at its full size; smaller ones, and those of which
 * nothing is needed, are created by the thread that has them (measured: creating a thousand files one after the other took as
 * long as their content).
 */
function tasksOf(
  line: FileLine | ConfigLine,
  facts: { readonly target: string; readonly owner: Owner; readonly needs: NeededBytes | null },
): RestoreTask[] {
  const { target, owner, needs } = facts;
  const common = { kind: 'chunks', path: line.p, target } as const;
  const mode = line.m;
  if (needs === null && line.s <= RANGE_BYTES)
    return [{ ...common, offset: 0, chunks: line.c, create: { sizeBytes: 0, mode, owner } }];
  const runs = neededRuns(line.c, needs ?? (() => true));
  if (runs.length === 0)
    return [{ ...common, offset: 0, chunks: [], create: { sizeBytes: line.s, mode, owner } }];
  closeSync(createFile(target, { sizeBytes: line.s, mode, owner }));
  return runs.map(({ offset, chunks }) => ({ ...common, offset, chunks, create: null }));
}
