import { workerData } from 'node:worker_threads';
import { Keyring } from '../../crypto/keyring.ts';
import type { Repository } from '../../repository/repository.ts';
import { openStorage } from '../../storage/registry.ts';
import { serveBatches } from '../worker-thread.ts';
import type { AheadDone, AheadStart, AheadTask } from './archive-ahead-protocol.ts';
import { archiveSegment } from './archive-segment.ts';

/** A thread that archives segments of a queue: hashing, sealing and summarising one keeps a processor busy. */
const start = workerData as AheadStart;
const repository: Repository = {
  id: '',
  storage: openStorage(start.location),
  keyring: Keyring.fromWorker(start.keys),
};

const send = serveBatches<AheadTask, AheadDone>(async ({ path, facts }) => {
  // What cannot be archived says why in its own call.
  const isArchived = await archiveSegment(repository, { ...start.request, path }).then(
    () => true,
    () => false,
  );
  send({ path, facts, isArchived });
});
