import { closeSync, fdatasyncSync, fsyncSync, openSync, renameSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { assert, messageOf } from '../base/errors.ts';

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
port.on('message', (job: FlushJob) => {
  let error: FlushAnswer['error'] = null;
  try {
    for (const file of job.full) {
      fdatasyncSync(file.fd);
      closeSync(file.fd);
      renameSync(file.path, file.name);
    }
    if (job.fd !== null) fdatasyncSync(job.fd);
    if (job.directory !== null) syncDirectory(job.directory);
  } catch (caught) {
    error = { message: messageOf(caught), code: (caught as NodeJS.ErrnoException).code ?? '' };
  }
  port.postMessage({ error } satisfies FlushAnswer);
});

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
