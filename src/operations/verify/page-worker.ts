import { closeSync, openSync, readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { assert, fileError, toErrorRecord } from '../../base/errors.ts';
import { createPageChecker } from '../../engines/postgres/page-checksum.ts';
import type { DamagedPage } from '../../repository/manifest.ts';
import type { FromWorker } from '../worker-pool.ts';
import type { PageBatch, PageMessage, PageTask } from './page-protocol.ts';

/** A thread that checks the checksums of every page of relation files, of a server that is stopped. */
const { blockSize } = workerData as { readonly blockSize: number };
const port = parentPort;
assert(port !== null, 'page-worker runs as a worker thread');
const checker = createPageChecker(4 * 1024 * 1024, blockSize);

port.on('message', (batch: PageBatch) => {
  try {
    const damaged: DamagedPage[] = [];
    let pages = 0;
    for (const task of batch.tasks) pages += checkFile(task, damaged);
    send({ type: 'batch', damaged, pages });
  } catch (error) {
    port.postMessage({ type: 'error', error: toErrorRecord(error) } satisfies FromWorker<PageMessage>);
  }
});

function send(message: PageMessage): void {
  port?.postMessage({ type: 'message', message } satisfies FromWorker<PageMessage>);
}

function checkFile(task: PageTask, damaged: DamagedPage[]): number {
  let block = task.firstBlock;
  try {
    const file = openSync(task.source, 'r');
    try {
      for (;;) {
        const got = readSync(
          file,
          checker.buffer,
          0,
          checker.buffer.length,
          (block - task.firstBlock) * blockSize,
        );
        const pages = Math.floor(got / blockSize);
        if (pages === 0) return block - task.firstBlock;
        for (const bad of checker.check(pages * blockSize, block))
          damaged.push({ path: task.path, block: block + bad });
        block += pages;
        send({ type: 'progress', bytes: got });
      }
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw fileError('read', task.source, error);
  }
}
