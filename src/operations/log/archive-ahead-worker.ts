import { workerData } from 'node:worker_threads';
import { Keyring } from '../../crypto/keyring.ts';
import type { LogObject } from '../../repository/log-object.ts';
import type { Repository } from '../../repository/repository.ts';
import { openStorage } from '../../storage/registry.ts';
import { serveBatches } from '../worker-thread.ts';
import type { AheadDone, AheadStart, AheadTask, ListedSegment } from './archive-ahead-protocol.ts';
import { newPiece, readListedSegment } from './archive-listed-segment.ts';

/** A thread that archives segments of a queue, with a processor to itself. While one is written, the next is compressed. */
const start = workerData as AheadStart;
const repository: Repository = {
  id: '',
  storage: openStorage(start.location),
  keyring: Keyring.fromWorker(start.keys),
};
const piece = newPiece();
/** Of objects that were put. */
const spare: Uint8Array[] = [];

const send = serveBatches<AheadTask, AheadDone>(async ({ segment }) => {
  try {
    const object = spare.pop();
    const memory = object === undefined ? { piece } : { piece, object };
    void put(segment, await readListedSegment(repository, start.request, { segment, memory }));
  } catch {
    send({ segment, archived: false });
  }
});

async function put(segment: ListedSegment, object: LogObject): Promise<void> {
  try {
    spare.push((await object.put()).buffer);
    send({ segment, archived: true });
  } catch {
    send({ segment, archived: false });
  }
}
