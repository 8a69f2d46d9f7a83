import { workerUrl } from '../../base/worker-url.ts';
import { type ListOptions, listDataFiles } from '../../engines/postgres/data-files.ts';
import type { DamagedPage } from '../../repository/manifest.ts';
import type { RunOptions } from '../instance-context.ts';
import { startWorkerPool } from '../worker-pool.ts';
import type { PageBatch, PageMessage, PageTask } from './page-protocol.ts';

export interface PageVerification {
  readonly pages: number;
  readonly files: number;
  readonly damaged: readonly DamagedPage[];
}

const BATCH_FILES = 64;
const BATCH_BYTES = 64 * 1024 * 1024;

/** Checks every page of a stopped server's directory. Only where page checksums are on. */
export async function verifyPages(
  dataDirectory: string,
  facts: {
    readonly blockSize: number;
    readonly workers: number;
    readonly listing: Omit<ListOptions, 'signal'>;
  },
  options: RunOptions,
): Promise<PageVerification> {
  const damaged: DamagedPage[] = [];
  const count = { pages: 0, files: 0, bytes: 0 };
  const pool = startWorkerPool<{ blockSize: number }, PageBatch, PageMessage>({
    url: workerUrl('page-worker', import.meta.url),
    count: facts.workers,
    start: { blockSize: facts.blockSize },
    signal: options.signal,
    onMessage: message => {
      if (message.type === 'progress') {
        count.bytes += message.bytes;
        return 'more';
      }
      damaged.push(...message.damaged);
      count.pages += message.pages;
      return 'batch-done';
    },
  });
  try {
    let tasks: PageTask[] = [];
    let bytes = 0;
    for await (const entry of listDataFiles(dataDirectory, { ...facts.listing, signal: options.signal })) {
      if (entry.kind !== 'file' || entry.relation === null) continue;
      count.files += 1;
      bytes += entry.sizeBytes;
      tasks.push({ path: entry.path, source: entry.source, firstBlock: entry.relation.firstBlock });
      if (tasks.length < BATCH_FILES && bytes < BATCH_BYTES) continue;
      await pool.submit({ tasks });
      tasks = [];
      bytes = 0;
    }
    await pool.finish({ tasks });
  } finally {
    await pool.terminate();
  }
  return { pages: count.pages, files: count.files, damaged };
}
