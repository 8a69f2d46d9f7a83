import { abortable } from './abort.ts';
import { assert } from './errors.ts';

/**
 * Runs `fn` over all items, at most `limit` at a time, and gives the results in the order of the items. Items are
 * pulled only when there is room for one more, so a long iterable is never held in memory.
 *
 * The first failure wins and is thrown as it is: no further item is pulled, the signal handed to the running calls
 * aborts, and the promise rejects only when all of them have ended, so that nothing goes on behind the caller's back.
 * An aborted `signal` ends it in the same way, with the signal's reason.
 */
export async function mapBounded<T, R>(
  items: AsyncIterable<T> | Iterable<T>,
  limit: number,
  fn: (item: T, signal: AbortSignal) => Promise<R>,
  signal?: AbortSignal,
): Promise<R[]> {
  assert(Number.isInteger(limit) && limit >= 1, `mapBounded needs a limit of at least 1, not ${limit}`);
  const failed = new AbortController();
  const stop = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
  const results: R[] = [];
  const running = new Set<Promise<void>>();
  const run = async (item: T, index: number): Promise<void> => {
    try {
      results[index] = await fn(item, stop);
    } catch (error) {
      failed.abort(error);
    }
  };
  let count = 0;
  try {
    for await (const item of untilAborted(items, stop)) {
      const task = run(item, count).finally(() => running.delete(task));
      running.add(task);
      count += 1;
      if (running.size >= limit) await Promise.race(running);
    }
  } finally {
    await Promise.all(running);
  }
  if (failed.signal.aborted) throw failed.signal.reason;
  return results;
}

/** The items until the signal aborts; then its reason is thrown, even while the source is still thinking of the next. */
async function* untilAborted<T>(
  items: AsyncIterable<T> | Iterable<T>,
  signal: AbortSignal,
): AsyncGenerator<T> {
  const iterator = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  let ended = false;
  let waiting = false;
  try {
    while (true) {
      signal.throwIfAborted();
      waiting = true;
      const next = await abortable(Promise.resolve(iterator.next()), signal);
      waiting = false;
      ended = next.done === true;
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    if (!ended) {
      const returned = Promise.resolve(iterator.return?.());
      // A source that hangs in next() would hang in return() too: it is told, but not waited for.
      if (waiting) returned.catch(() => undefined);
      else await returned;
    }
  }
}
