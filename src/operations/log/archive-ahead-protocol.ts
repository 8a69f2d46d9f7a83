import type { StorageLocation } from '../../storage/storage.ts';
import type { ArchiveRequest } from './archive-segment.ts';

export interface AheadStart {
  readonly location: StorageLocation;
  readonly keys: readonly (readonly [number, Uint8Array])[];
  readonly request: Omit<ArchiveRequest, 'path'>;
}

/** A segment, and what was known of its file before it was read. */
export interface AheadSegment {
  readonly path: string;
  readonly facts: string;
}

export interface AheadTask {
  readonly segments: readonly AheadSegment[];
}

export interface AheadDone {
  readonly archived: readonly AheadSegment[];
}
