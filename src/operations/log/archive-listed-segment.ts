import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileError } from '../../base/errors.ts';
import { FRAME_BODY_BYTES } from '../../repository/compression.ts';
import { checkIdentity } from '../../repository/identity.ts';
import { LogObject } from '../../repository/log-object.ts';
import type { Repository } from '../../repository/repository.ts';
import type { ListedSegment } from './archive-ahead-protocol.ts';
import { fileFacts } from './archive-notes.ts';
import { type ArchiveRequest, checkSegment, notASegment, refuseCopy } from './archive-segment.ts';

/** Memory that is used again for one segment after the other: new memory costs page faults and garbage collection. */
export interface SegmentMemory {
  /** For one piece of the file: so small that it stays in the processor's cache while it is hashed and compressed. */
  readonly piece: Uint8Array;
  /** For an object; left out: new. */
  readonly object?: Uint8Array;
}

export function newPiece(): Uint8Array {
  return new Uint8Array(FRAME_BODY_BYTES);
}

/**
 * Makes the object of a segment that waited in the server's queue when it was listed; `put` stores it. For a thread with a
 * processor to itself: it reads, hashes, compresses and seals piece by piece, and lets others have a turn between them.
 *
 * What is read must be the file that was listed, as it was then. A file that has come into its place since, as with another
 * data directory, may not be finished: nobody has asked to archive that.
 *
 * @throws COPY_REFUSED, SYSTEM_MISMATCH, CORRUPT when it is not the segment that was listed
 */
export async function readListedSegment(
  repository: Repository,
  request: Omit<ArchiveRequest, 'path'>,
  { segment, memory }: { readonly segment: ListedSegment; readonly memory: SegmentMemory },
): Promise<LogObject> {
  const path = resolve(segment.path);
  const name = basename(path);
  await refuseCopy(dirname(dirname(path)));
  const file = openSync(path, 'r');
  try {
    const sizeBytes = sizeIfSame(file, segment);
    const head = readPiece(file, { at: 0, sizeBytes, path, into: memory.piece });
    const systemIdentifier = checkSegment(head, name, sizeBytes);
    const { instance, level } = request;
    await checkIdentity(repository, { instance, systemIdentifier });
    const buffer = memory.object === undefined ? {} : { buffer: memory.object };
    const object = new LogObject(repository, { instance, systemIdentifier, name, level, ...buffer });
    object.add(head);
    for (let at = head.length; at < sizeBytes; at += memory.piece.length) {
      await nextTurn();
      object.add(readPiece(file, { at, sizeBytes, path, into: memory.piece }));
    }
    sizeIfSame(file, segment);
    return object;
  } finally {
    closeSync(file);
  }
}

function sizeIfSame(file: number, { path, facts }: ListedSegment): number {
  const found = fstatSync(file, { bigint: true });
  if (facts.startsWith(fileFacts(found))) return Number(found.size);
  throw notASegment(basename(path), 'it changed since it was listed');
}

function readPiece(
  file: number,
  from: { readonly at: number; readonly sizeBytes: number; readonly path: string; readonly into: Uint8Array },
): Uint8Array {
  const { at, sizeBytes, path } = from;
  const piece = from.into.subarray(0, Math.min(from.into.length, sizeBytes - at));
  try {
    for (let done = 0; done < piece.length; ) {
      const bytesRead = readSync(file, piece, done, piece.length - done, at + done);
      if (bytesRead === 0) throw notASegment(basename(path), 'it got shorter while it was read');
      done += bytesRead;
    }
    return piece;
  } catch (error) {
    throw fileError('read', path, error);
  }
}
