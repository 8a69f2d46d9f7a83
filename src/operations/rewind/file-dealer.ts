/** What is to be done to one file. */
export interface FileJob<T> {
  /** About what all of it takes. */
  readonly bytes: number;
  /** Called once, when its turn comes. */
  tasks(): T[];
}

/** So many tasks at most are handed to a thread at once. */
export const BATCH_TASKS = 256;

/**
 * Deals the work on files out to threads, so that each works on a file of its own as long as there is one: two that write
 * into one file wait for its lock most of their time. Large files go first, and small ones together; at the end the threads
 * help each other with what is left of the large ones.
 */
export class FileDealer<T> {
  readonly #batchBytes: number;
  /** By size; the largest one last. */
  readonly #large: FileJob<T>[];
  readonly #small: FileJob<T>[];
  /** By thread: the tasks of its file that are not begun, the next one last. */
  readonly #own: T[][] = [];

  /** A file that takes less than `batchBytes` is a small one. */
  constructor(files: readonly FileJob<T>[], batchBytes: number) {
    this.#batchBytes = batchBytes;
    this.#large = files.filter(file => file.bytes >= batchBytes).sort((a, b) => a.bytes - b.bytes);
    this.#small = files.filter(file => file.bytes < batchBytes).reverse();
  }

  /** What thread number `thread` does next; null when nothing is left. */
  next(thread: number): T[] | null {
    let own = this.#own[thread] ?? [];
    if (own.length === 0) {
      own = this.#large.pop()?.tasks().reverse() ?? [];
      this.#own[thread] = own;
    }
    const next = own.pop();
    if (next !== undefined) return [next];
    const together = this.#together();
    if (together.length > 0) return together;
    const rest = this.#own.reduce((longest, each) => (each.length > longest.length ? each : longest), []);
    const last = rest.shift();
    return last === undefined ? null : [last];
  }

  #together(): T[] {
    const batch: T[] = [];
    let bytes = 0;
    while (bytes < this.#batchBytes && batch.length < BATCH_TASKS) {
      const file = this.#small.pop();
      if (file === undefined) break;
      batch.push(...file.tasks());
      bytes += file.bytes;
    }
    return batch;
  }
}
