import { parentPort } from 'node:worker_threads';
import { assert, toErrorRecord } from '../base/errors.ts';
import type { FromWorker } from './worker-pool.ts';

/**
 * The inside of a worker thread: takes batches from its pool, strictly one after the other. An error of a batch goes to
 * the pool, which ends all threads.
 *
 * @param foresee is called as a batch arrives, while others before it may still be in work: to begin fetching what it needs
 * @returns what sends a message to the pool
 */
export function serveBatches<Batch, Message>(
  runBatch: (batch: Batch) => Promise<void>,
  foresee?: (batch: Batch) => void,
): (message: Message) => void {
  const port = parentPort;
  assert(port !== null, 'this code runs as a worker thread');
  const post = (from: FromWorker<Message>): void => port.postMessage(from);
  let queue: Promise<void> = Promise.resolve();
  port.on('message', (batch: Batch) => {
    foresee?.(batch);
    queue = queue
      .then(() => runBatch(batch))
      .catch((error: unknown) => post({ type: 'error', error: toErrorRecord(error) }));
  });
  return message => post({ type: 'message', message });
}

/** What is told of progress at once: a message for every frame would cost a twentieth of a restore's work. */
const PROGRESS_BYTES = 8 * 1024 * 1024;

/** Adds up small steps of progress until they are worth a message. */
export function gatherProgress(tell: (bytes: number) => void): {
  add(bytes: number): void;
  flush(): void;
} {
  let pendingBytes = 0;
  const flush = (): void => {
    if (pendingBytes > 0) tell(pendingBytes);
    pendingBytes = 0;
  };
  return {
    flush,
    add(bytes) {
      pendingBytes += bytes;
      if (pendingBytes >= PROGRESS_BYTES) flush();
    },
  };
}
