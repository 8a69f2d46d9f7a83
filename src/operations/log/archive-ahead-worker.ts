import { workerData } from 'node:worker_threads';
import { Keyring } from '../../crypto/keyring.ts';
import type { Repository } from '../../repository/repository.ts';
import { openStorage } from '../../storage/registry.ts';
import { serveBatches } from '../worker-thread.ts';
import type { AheadDone, AheadSegment, AheadStart, AheadTask } from './archive-ahead-protocol.ts';
import { archiveSegment, newSegmentMemory, type SegmentMemory } from './archive-segment.ts';

/** A thread that archives segments of a queue: hashing, sealing and summarising one keeps a processor busy. */
const start = workerData as AheadStart;
const repository: Repository = {
  id: '',
  storage: openStorage(start.location),
  keyring: Keyring.fromWorker(start.keys),
};

/** While one is compressed or written, another one is hashed. Each has memory of its own. */
const memories: readonly SegmentMemory[] = Array.from({ length: 3 }, newSegmentMemory);

const send = serveBatches<AheadTask, AheadDone>(async ({ segments }) => {
  const archived: AheadSegment[] = [];
  const waiting = segments.values();
  const archiveOneByOne = async (memory: SegmentMemory): Promise<void> => {
    for (const segment of waiting) {
      try {
        await archiveSegment(repository, { ...start.request, path: segment.path, memory });
        archived.push(segment);
      } catch {
        // Its own call says why.
      }
    }
  };
  await Promise.all(memories.map(archiveOneByOne));
  send({ archived });
});
