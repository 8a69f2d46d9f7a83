import type { LogOwner } from '../../repository/log-archive.ts';
import type { StorageLocation } from '../../storage/storage.ts';
import type { Owner } from './new-files.ts';
import type { LogFilePlace } from './write-log-file.ts';

export interface LogFeederWorkerStart {
  readonly location: StorageLocation;
  readonly keys: readonly (readonly [number, Uint8Array])[];
  readonly log: LogOwner;
  readonly owner: Owner;
}

/** One file of the log: fetched, and written, or put into memory that the threads share. */
export interface FeedTask extends LogFilePlace {
  readonly index: number;
  /** Its name in the archive. */
  readonly name: string;
  /** Null: it is written. */
  readonly into: SharedArrayBuffer | null;
}

export interface FedFile {
  readonly index: number;
  readonly bytes: number;
  /** What its thread worked on it, without waiting for the storage. */
  readonly workMs: number;
  /** What it waited for the storage beyond that. */
  readonly waitedMs: number;
}
