import { workerUrl } from '../../base/worker-url.ts';
import type { DamagedPage } from '../../repository/manifest.ts';
import { type Manifest, packPathOf } from '../../repository/manifest-reader.ts';
import type { InstanceContext } from '../instance-context.ts';
import { startWorkerPool } from '../worker-pool.ts';
import { BATCH_TASKS, FileDealer, type FileJob } from './file-dealer.ts';
import type { Places } from './places.ts';
import type { RewindBatch, RewindMessage, RewindTask, RewindWorkerStart } from './rewind-protocol.ts';

/** What the threads did, added up. */
export interface PoolTotals {
  readonly keptBytes: number;
  readonly writtenBytes: number;
  readonly copiedBytes: number;
  readonly fetchedBytes: number;
  readonly checkedPages: number;
  readonly damaged: readonly DamagedPage[];
}

export interface RewindPool {
  /** Hands a task to a thread, sooner or later; waits while all have enough to do. `bytes` is what it will take. */
  add(task: RewindTask, bytes: number): Promise<void>;
  /** Does all that these files need, those threads on different files that can be. Resolves when all is handed over. */
  deal(files: readonly FileJob<RewindTask>[]): Promise<void>;
  /** Waits until everything handed over so far is done. */
  drain(): Promise<void>;
  /** Waits until all is done, ends the threads. @throws what the first thread failed with */
  finish(): Promise<PoolTotals>;
  terminate(): Promise<void>;
}

const BATCH_BYTES = 8 * 1024 * 1024;

export function rewindPool(
  context: Pick<InstanceContext, 'repository' | 'location' | 'workers'>,
  from: { readonly manifest: Manifest; readonly places: Places },
  options: { readonly signal: AbortSignal; readonly onProgress: (bytes: number) => void },
): RewindPool {
  const { manifest, places } = from;
  const totals = { keptBytes: 0, writtenBytes: 0, copiedBytes: 0, fetchedBytes: 0, checkedPages: 0 };
  const damaged: DamagedPage[] = [];
  const pool = startWorkerPool<RewindWorkerStart, RewindBatch, RewindMessage>({
    url: workerUrl('rewind-worker', import.meta.url),
    count: context.workers,
    start: {
      location: context.location,
      keys: context.repository.keyring.toWorker(),
      packs: manifest.packs.map(pack => ({
        path: packPathOf(manifest, pack),
        id: pack.id,
        generation: pack.generation,
      })),
      safety: places.safety,
      blockSize: manifest.backup.blockSize,
    },
    signal: options.signal,
    onMessage: message => {
      if (message.type === 'progress') {
        options.onProgress(message.bytes);
        return 'more';
      }
      totals.keptBytes += message.keptBytes;
      totals.writtenBytes += message.writtenBytes;
      totals.copiedBytes += message.copiedBytes;
      totals.fetchedBytes += message.fetchedBytes;
      totals.checkedPages += message.checkedPages;
      damaged.push(...message.damaged);
      return 'batch-done';
    },
  });
  let tasks: RewindTask[] = [];
  let pendingBytes = 0;
  const flush = async (): Promise<void> => {
    const full = tasks;
    tasks = [];
    pendingBytes = 0;
    if (full.length > 0) await pool.submit({ tasks: full });
  };
  return {
    async add(task, bytes) {
      tasks.push(task);
      pendingBytes += bytes;
      if (pendingBytes >= BATCH_BYTES || tasks.length >= BATCH_TASKS) await flush();
    },
    async deal(files) {
      const dealer = new FileDealer(files, BATCH_BYTES);
      await pool.deal(thread => {
        const batch = dealer.next(thread);
        return batch && { tasks: batch };
      });
    },
    async drain() {
      await flush();
      await pool.drain();
    },
    async finish() {
      await flush();
      await pool.finish({ tasks: [], last: true });
      return { ...totals, damaged };
    },
    terminate: () => pool.terminate(),
  };
}
