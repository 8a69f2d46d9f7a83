import { Worker } from 'node:worker_threads';
import { AppError, type ErrorRecord, fromErrorRecord } from '../base/errors.ts';

/** What a worker thread sends: a message of its job, or the error that ended it. */
export type FromWorker<M> =
  | { readonly type: 'message'; readonly message: M }
  | { readonly type: 'error'; readonly error: ErrorRecord };

/** Worker threads that share nothing: each gets plain data at its start, then batches, and answers each with a message. */
export interface WorkerPool<Batch> {
  /** Hands a batch to the least busy worker; waits while all have enough to do. */
  submit(batch: Batch): Promise<void>;
  /** Hands each worker the batches that `next` says for its number, from 0 on, until that is null; waits as `submit` does. */
  deal(next: (worker: number) => Batch | null): Promise<void>;
  /** Hands a batch to every worker, behind what it has. */
  broadcast(batch: Batch): void;
  /** Waits until all batches handed over are answered. */
  drain(): Promise<void>;
  /** Sends a last batch to every worker, waits until all have answered everything and ended. */
  finish(last: Batch): Promise<void>;
  /** Ends the threads at once. */
  terminate(): Promise<void>;
}

interface Member<Batch> {
  readonly worker: Worker;
  outstanding: number;
  readonly send: (batch: Batch) => void;
}

/** Two batches per worker: one in work, one waiting, so that no worker idles while the main thread lists files. */
const BATCHES_IN_FLIGHT = 2;

/**
 * Starts `count` threads of the code at `url`. Each message of a worker goes to `onMessage`, which says whether a batch
 * was answered with it. The first error ends all; it is thrown by the next call.
 */
export function startWorkerPool<Start, Batch, Message>(options: {
  readonly url: URL;
  readonly count: number;
  readonly start: Start;
  readonly onMessage: (message: Message) => 'batch-done' | 'more';
  /** Told of the error at once, for who waits for something else than this pool. */
  readonly onFailure?: (error: unknown) => void;
  readonly signal?: AbortSignal;
}): WorkerPool<Batch> {
  let failure: unknown = null;
  let waiting: (() => void)[] = [];
  const notify = (): void => {
    const woken = waiting;
    waiting = [];
    for (const wake of woken) wake();
  };
  const fail = (error: unknown): void => {
    if (failure === null) options.onFailure?.(error);
    failure ??= error;
    notify();
  };
  let finishing = false;
  const members = Array.from({ length: options.count }, (): Member<Batch> => {
    const worker = new Worker(options.url, {
      workerData: options.start,
      resourceLimits: { maxOldGenerationSizeMb: 512 },
    });
    const member: Member<Batch> = { worker, outstanding: 0, send: batch => worker.postMessage(batch) };
    worker.on('message', (from: FromWorker<Message>) => {
      if (from.type === 'error') return fail(fromErrorRecord(from.error));
      try {
        if (options.onMessage(from.message) === 'batch-done') member.outstanding -= 1;
      } catch (error) {
        return fail(error);
      }
      notify();
    });
    worker.on('error', fail);
    worker.on('exit', code => {
      if (!finishing && failure === null)
        fail(new AppError('BUG', `a worker thread ended early with code ${code}`));
    });
    return member;
  });
  const onAbort = (): void => fail(options.signal?.reason);
  if (options.signal?.aborted) onAbort();
  options.signal?.addEventListener('abort', onAbort, { once: true });
  const terminate = async (): Promise<void> => {
    finishing = true;
    options.signal?.removeEventListener('abort', onAbort);
    await Promise.all(members.map(member => member.worker.terminate()));
  };
  const until = async (ready: () => boolean): Promise<void> => {
    for (;;) {
      if (failure !== null) {
        await terminate();
        throw failure;
      }
      if (ready()) return;
      await new Promise<void>(resolve => {
        waiting.push(resolve);
      });
    }
  };
  const drain = (): Promise<void> => until(() => members.every(member => member.outstanding === 0));
  const hand = (member: Member<Batch>, batch: Batch): void => {
    member.outstanding += 1;
    member.send(batch);
  };
  const broadcast = (batch: Batch): void => {
    for (const member of members) hand(member, batch);
  };
  return {
    broadcast,
    async submit(batch) {
      const least = (): Member<Batch> => members.reduce((a, b) => (b.outstanding < a.outstanding ? b : a));
      await until(() => least().outstanding < BATCHES_IN_FLIGHT);
      hand(least(), batch);
    },
    async deal(next) {
      const nextOrFail = (worker: number): Batch | null => {
        try {
          return next(worker);
        } catch (error) {
          fail(error);
          throw error;
        }
      };
      const serve = async (member: Member<Batch>, worker: number): Promise<void> => {
        for (;;) {
          await until(() => member.outstanding < BATCHES_IN_FLIGHT);
          const batch = nextOrFail(worker);
          if (batch === null) return;
          hand(member, batch);
        }
      };
      await Promise.all(members.map(serve));
    },
    drain,
    async finish(last) {
      broadcast(last);
      await drain();
      await terminate();
    },
    terminate,
  };
}
