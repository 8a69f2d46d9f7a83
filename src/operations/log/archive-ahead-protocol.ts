import type { StorageLocation } from '../../storage/storage.ts';
import type { ArchiveRequest } from './archive-segment.ts';

export interface AheadStart {
  readonly location: StorageLocation;
  readonly keys: readonly (readonly [number, Uint8Array])[];
  readonly request: Omit<ArchiveRequest, 'path'>;
}

/** A segment, and what was known of its file when it was listed. */
export interface ListedSegment {
  readonly path: string;
  /** {@link fileFacts} of it, and what else its note is bound to. */
  readonly facts: string;
}

export interface AheadTask {
  readonly segment: ListedSegment;
}

export interface AheadDone {
  readonly segment: ListedSegment;
  /** False: its own call says why. */
  readonly archived: boolean;
}
