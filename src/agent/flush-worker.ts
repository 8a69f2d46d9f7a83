import { closeSync, fdatasyncSync, fsyncSync, openSync, renameSync } from 'node:fs';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { assert } from '../base/errors.ts';
import { ASKED, DONE, FILE, type FlushJob, type FlushMemory, IN_MESSAGE } from './flush-protocol.ts';

/**
 * A thread of its own, as a flush of the spool is what commits wait for: in the thread pool it would stand behind the
 * compression of segments.
 */
const port = parentPort;
assert(port !== null, 'this code runs as a worker thread');
const memory = workerData as FlushMemory;

for (let done = 0; ; done = (done + 1) | 0) {
  while (Atomics.load(memory, ASKED) === done) Atomics.wait(memory, ASKED, done);
  const fd = Atomics.load(memory, FILE);
  if (fd === IN_MESSAGE) flush((receiveMessageOnPort(port) as { readonly message: FlushJob }).message);
  else fdatasyncSync(fd);
  Atomics.add(memory, DONE, 1);
  Atomics.notify(memory, DONE);
}

function flush(job: FlushJob): void {
  for (const file of job.full) {
    fdatasyncSync(file.fd);
    closeSync(file.fd);
    renameSync(file.path, file.name);
  }
  if (job.fd !== null) fdatasyncSync(job.fd);
  if (job.directory !== null) syncDirectory(job.directory);
}

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
