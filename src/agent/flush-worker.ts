import { closeSync, fdatasyncSync, fsyncSync, openSync, renameSync } from 'node:fs';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { assert, messageOf, systemCode } from '../base/errors.ts';

/** What the thread that flushes the spool is asked: strictly one thing after the other. */
export interface FlushJob {
  /** Files that are full: flushed, closed, and given their name. */
  readonly full: readonly { readonly fd: number; readonly path: string; readonly name: string }[];
  /** The file that is written to; null when there is none. */
  readonly fd: number | null;
  /** Whether names in the directory changed since the last flush. */
  readonly directory: string | null;
}

export interface FlushAnswer {
  readonly error: { readonly message: string; readonly code: string } | null;
}

/**
 * A thread of its own, as a flush of the spool is what commits wait for: in the thread pool it would stand behind the
 * compression of segments.
 */
const port = parentPort;
assert(port !== null, 'this code runs as a worker thread');
const wakeUp = workerData as Int32Array<SharedArrayBuffer>;

// Asleep until there is a job: an event loop would take longer to deliver it than many a flush takes.
for (;;) {
  const seen = Atomics.load(wakeUp, 0);
  const received = receiveMessageOnPort(port) as { readonly message: FlushJob } | undefined;
  if (received === undefined) Atomics.wait(wakeUp, 0, seen);
  else port.postMessage(flush(received.message));
}

function flush(job: FlushJob): FlushAnswer {
  try {
    for (const file of job.full) {
      fdatasyncSync(file.fd);
      closeSync(file.fd);
      renameSync(file.path, file.name);
    }
    if (job.fd !== null) fdatasyncSync(job.fd);
    if (job.directory !== null) syncDirectory(job.directory);
    return { error: null };
  } catch (error) {
    return { error: { message: messageOf(error), code: systemCode(error) } };
  }
}

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
