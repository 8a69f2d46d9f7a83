/**
 * How a thread is asked to flush: in memory that it shares with who asks, as a message takes longer to arrive than many a
 * flush takes. It waits until there are more questions than it has answered, and who asked for more answers than before.
 */
export type FlushMemory = Int32Array<SharedArrayBuffer>;

/** How many flushes were asked for, and how many are done; both wrap around. */
export const ASKED = 0;
export const DONE = 1;
/** The file to flush; {@link IN_MESSAGE}: there is more to do, which a message says that was sent before. */
export const FILE = 2;
export const IN_MESSAGE = -1;

export function createFlushMemory(): FlushMemory {
  return new Int32Array(new SharedArrayBuffer(3 * Int32Array.BYTES_PER_ELEMENT));
}

/** What the thread is asked for, strictly one thing after the other. It ends with the error of one that fails. */
export interface FlushJob {
  /** Files that are full: flushed, closed, and given their name. */
  readonly full: readonly { readonly fd: number; readonly path: string; readonly name: string }[];
  /** The file that is written to; null when there is none. */
  readonly fd: number | null;
  /** Whether names in the directory changed since the last flush. */
  readonly directory: string | null;
}
