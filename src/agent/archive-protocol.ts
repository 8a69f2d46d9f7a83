import type { ErrorRecord } from '../base/errors.ts';
import type { CompressionLevel } from '../repository/compression.ts';
import type { LogOwner } from '../repository/log-archive.ts';
import type { StorageLocation } from '../storage/storage.ts';

/** What the archiving thread is started with. */
export interface ArchiveWorkerStart {
  readonly location: StorageLocation;
  readonly keys: readonly (readonly [number, Uint8Array])[];
  readonly owner: LogOwner;
  readonly level: CompressionLevel;
}

export type ArchiveTask =
  /** A whole segment of the spool, under its name. */
  | { readonly kind: 'segment'; readonly path: string; readonly segment: string }
  /** A piece of one that is not full. */
  | {
      readonly kind: 'part';
      readonly path: string;
      readonly segment: string;
      readonly from: number;
      readonly to: number;
    }
  | { readonly kind: 'history'; readonly name: string; readonly content: string }
  /** Whether a file of the server's is byte for byte what the spool holds. */
  | { readonly kind: 'compare'; readonly paths: readonly [string, string] };

export type ArchiveOutcome = 'stored' | 'same' | 'different';

export interface ArchiveRequest {
  readonly id: number;
  readonly task: ArchiveTask;
}

export interface ArchiveAnswer {
  readonly id: number;
  readonly outcome: ArchiveOutcome | null;
  readonly error: ErrorRecord | null;
}
