import { Worker } from 'node:worker_threads';
import { AppError, fromErrorRecord } from '../base/errors.ts';
import { workerUrl } from '../base/worker-url.ts';
import type {
  ArchiveAnswer,
  ArchiveOutcome,
  ArchiveRequest,
  ArchiveTask,
  ArchiveWorkerStart,
} from './archive-protocol.ts';

/** The thread that archives for one instance: one thing after the other. */
export interface ArchiveThread {
  /** @throws what storing throws: STORAGE_UNREACHABLE, STORAGE_DENIED, STORAGE_FULL, LOG_CONFLICT, FILE_FAILED */
  run(task: ArchiveTask): Promise<ArchiveOutcome>;
  terminate(): Promise<void>;
}

export function startArchiveThread(start: ArchiveWorkerStart): ArchiveThread {
  const worker = new Worker(workerUrl('archive-worker', import.meta.url), { workerData: start });
  const waiting = new Map<number, PromiseWithResolvers<ArchiveOutcome>>();
  let ids = 0;
  let ended: AppError | null = null;
  const end = (error: AppError): void => {
    ended = error;
    for (const each of waiting.values()) each.reject(error);
    waiting.clear();
  };
  worker.on('message', ({ id, outcome, error }: ArchiveAnswer) => {
    const asked = waiting.get(id);
    waiting.delete(id);
    if (error !== null) asked?.reject(fromErrorRecord(error));
    else if (outcome !== null) asked?.resolve(outcome);
  });
  worker.on('error', error =>
    end(new AppError('BUG', `the archiving thread ended: ${error}`, { cause: error })),
  );
  worker.on('exit', () => end(new AppError('CANCELLED', 'the archiving thread was ended')));
  return {
    run(task) {
      if (ended !== null) return Promise.reject(ended);
      const asked = Promise.withResolvers<ArchiveOutcome>();
      ids += 1;
      waiting.set(ids, asked);
      worker.postMessage({ id: ids, task } satisfies ArchiveRequest);
      return asked.promise;
    },
    terminate: async () => void (await worker.terminate()),
  };
}
