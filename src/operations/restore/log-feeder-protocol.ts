import type { LogOwner } from '../../repository/log-archive.ts';
import type { StorageLocation } from '../../storage/storage.ts';
import type { Owner } from './new-files.ts';

export interface LogFeederWorkerStart {
  readonly location: StorageLocation;
  readonly keys: readonly (readonly [number, Uint8Array])[];
  readonly log: LogOwner;
  readonly owner: Owner;
}

/** One file of the log: fetched, written as `aside`, and renamed to `target` once it is whole. */
export interface FeedTask {
  readonly index: number;
  /** Its name in the archive. */
  readonly name: string;
  readonly aside: string;
  readonly target: string;
  /** A file that nobody needs any more, to be written over instead of a new one; it may be gone. */
  readonly reuse: string | null;
}

export interface FedFile {
  readonly index: number;
  readonly bytes: number;
  /** What its thread worked on it, without waiting for the storage. */
  readonly workMs: number;
  /** What it waited for the storage beyond that. */
  readonly waitedMs: number;
}
