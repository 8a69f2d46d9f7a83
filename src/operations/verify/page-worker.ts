import { closeSync, openSync, readSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { fileError } from '../../base/errors.ts';
import { createPageChecker } from '../../engines/postgres/page-checksum.ts';
import type { DamagedPage } from '../../repository/manifest.ts';
import { serveBatches } from '../worker-thread.ts';
import type { PageBatch, PageMessage, PageTask } from './page-protocol.ts';

/** A thread that checks the checksums of every page of relation files, of a server that is stopped. */
const { blockSize } = workerData as { readonly blockSize: number };
const checker = createPageChecker(4 * 1024 * 1024, blockSize);

const send = serveBatches<PageBatch, PageMessage>(async batch => {
  const damaged: DamagedPage[] = [];
  let pages = 0;
  for (const task of batch.tasks) pages += checkFile(task, damaged);
  send({ type: 'batch', damaged, pages });
});

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
