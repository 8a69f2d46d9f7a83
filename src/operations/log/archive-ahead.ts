import { availableParallelism } from 'node:os';
import { takeProcessLock } from '../../base/process-lock.ts';
import type { Repository } from '../../repository/repository.ts';
import type { StorageLocation } from '../../storage/storage.ts';
import { startWorkerPool, type WorkerPool } from '../worker-pool.ts';
import type { AheadDone, AheadStart, AheadTask, ListedSegment } from './archive-ahead-protocol.ts';
import { type ArchiveCall, ArchiveNotes } from './archive-notes.ts';
import type { ArchiveRequest } from './archive-segment.ts';
import { ServerQueue } from './server-queue.ts';

/** No segment is begun later than this: the next call begins anew, with the configuration and the program of then. */
const AHEAD_MS = 60_000;
/** With fewer segments waiting, their own calls are as quick. */
const QUEUE = 3;
const THREADS_AT_MOST = 4;

interface AheadRun {
  readonly repository: Repository;
  readonly location: StorageLocation;
  /** Its path is that of the segment in front of the queue, whose own call archives it. */
  readonly request: ArchiveRequest;
  readonly call: ArchiveCall;
  /** One process at a time archives ahead. */
  readonly lock: string;
  /** The code of the threads: this program is one file, which they are not part of. */
  readonly workerUrl: URL;
  /** Called once the calls for what was listed first wait for this process. */
  readonly onAnnounced: () => void;
}

/** Whether so many segments wait behind this one that archiving them ahead is worth a process. */
export function hasQueue(path: string): boolean {
  try {
    return new ServerQueue(path).next().length >= QUEUE;
  } catch {
    // No server's directory: there is nothing but this one file.
    return false;
  }
}

/**
 * Archives what waits in the server's queue behind a segment, in a process of its own, so that the calls for these find a
 * note and end before they have begun: bin/aishell compares it, and starts no Node (which takes as long as compressing a
 * segment). A call that comes too early waits for its note. Nothing is promised to the server here: at the first failure the
 * rest is left to its own calls, which have the words for it.
 */
export async function archiveAhead(run: AheadRun): Promise<void> {
  const lock = takeProcessLock(run.lock, 'wal-archive-ahead');
  if (lock.release === null) return;
  try {
    const notes = new ArchiveNotes(run.call);
    const queue = new ServerQueue(run.request.path);
    const open = new Map<string, ListedSegment>();
    try {
      await archiveQueue(run, { notes, queue, open });
    } finally {
      for (const segment of open.values()) notes.withdraw(segment);
    }
  } finally {
    lock.release();
  }
}

/** `open`: what was announced and is not archived, by its path. */
async function archiveQueue(
  run: AheadRun,
  of: {
    readonly notes: ArchiveNotes;
    readonly queue: ServerQueue;
    readonly open: Map<string, ListedSegment>;
  },
): Promise<void> {
  const { notes, queue, open } = of;
  const until = performance.now() + AHEAD_MS;
  let failed = false;
  let isFirst = true;
  const goesOn = (): boolean => !failed && performance.now() < until && queue.isServed();
  const pool = startThreads(run, ({ segment, archived }) => {
    if (archived) {
      open.delete(segment.path);
      notes.confirm(segment);
    } else failed = true;
    return 'batch-done';
  });
  try {
    while (goesOn()) {
      const listed = notes.list(queue.next());
      if (listed.length < QUEUE) break;
      for (const segment of listed) {
        notes.announce(segment);
        open.set(segment.path, segment);
      }
      if (isFirst) run.onAnnounced();
      isFirst = false;
      for (const segment of listed) if (goesOn()) await pool.submit({ segment });
    }
    await pool.drain();
  } finally {
    await pool.terminate();
  }
}

function startThreads(
  { location, repository, request, workerUrl }: AheadRun,
  onMessage: (done: AheadDone) => 'batch-done',
): WorkerPool<AheadTask> {
  return startWorkerPool<AheadStart, AheadTask, AheadDone>({
    url: workerUrl,
    count: Math.min(THREADS_AT_MOST, availableParallelism()),
    start: {
      location,
      keys: repository.keyring.toWorker(),
      request: { instance: request.instance, level: request.level },
    },
    onMessage,
  });
}
