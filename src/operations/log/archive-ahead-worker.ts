import { workerData } from 'node:worker_threads';
import { Keyring } from '../../crypto/keyring.ts';
import type { Repository } from '../../repository/repository.ts';
import { openStorage } from '../../storage/registry.ts';
import { serveBatches } from '../worker-thread.ts';
import type { AheadDone, AheadStart, AheadTask } from './archive-ahead-protocol.ts';
import { archiveSegment, newSegmentMemory, type SegmentMemory } from './archive-segment.ts';

/** A thread that archives segments of a queue: hashing, sealing and summarising one keeps a processor busy. */
const start = workerData as AheadStart;
const repository: Repository = {
  id: '',
  storage: openStorage(start.location),
  keyring: Keyring.fromWorker(start.keys),
};

/** For each of the segments that are in work at a time. */
const memories: SegmentMemory[] = [];

const send = serveBatches<AheadTask, AheadDone>(async ({ segments }) => {
  // What cannot be archived says why in its own call.
  const outcomes = await Promise.allSettled(
    segments.map(({ path }, index) => {
      memories[index] ??= newSegmentMemory();
      return archiveSegment(repository, { ...start.request, path, memory: memories[index] });
    }),
  );
  send({ archived: segments.filter((_, index) => outcomes[index]?.status === 'fulfilled') });
});
