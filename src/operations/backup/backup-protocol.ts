import type { CompressionLevel } from '../../repository/compression.ts';
import type { DamagedPage, PackFacts } from '../../repository/manifest.ts';
import type { StoredFrame } from '../../repository/pack-writer.ts';
import type { StorageLocation } from '../../storage/storage.ts';
import type { PageSelection } from './page-selection.ts';
import type { PackedRanges } from './ranges.ts';

/** What a backup worker is started with: plain data, so that it can build everything of its own. */
export interface BackupWorkerStart {
  readonly location: StorageLocation;
  readonly keys: readonly (readonly [number, Uint8Array])[];
  readonly instance: string;
  readonly backupId: string;
  readonly level: CompressionLevel;
  readonly blockSize: number;
}

/** A range of one file to read, or bytes at hand (backup_label and its like). */
export interface ReadTask {
  readonly id: number;
  /** Its path in the manifest. */
  readonly path: string;
  readonly source: string | Uint8Array;
  readonly offset: number;
  readonly length: number;
  /** Block number, within the relation, of the page at `offset`; null where there are no pages. */
  readonly firstBlock: number | null;
  /** True: its frames get hashes although its pages carry checksums, so that a later backup can tell what changed. */
  readonly hashed?: boolean;
  /** Left out: everything. Otherwise what of the range is to be stored. */
  readonly selection?: PageSelection;
}

export interface BackupBatch {
  readonly tasks: readonly ReadTask[];
  /** Where the backup starts; null when the instance has no page checksums. */
  readonly startLsn: bigint | null;
  /** True: the pack that is being filled is closed too, and everything durable before the answer. */
  readonly closesPack?: boolean;
}

/** What was read of one task; fewer bytes than asked for when the file got shorter, null when it is gone. */
export interface ReadResult {
  readonly id: number;
  readonly frames: readonly StoredFrame[] | null;
  readonly damaged: readonly DamagedPage[];
  /** Of a task with a selection: where in the file the content of each frame belongs. */
  readonly ranges?: readonly PackedRanges[];
  /** Of a task with a selection: where the file was found to end, null when behind the range. */
  readonly endsAt?: number | null;
}

export type BackupMessage =
  | { readonly type: 'batch'; readonly results: readonly ReadResult[] }
  | { readonly type: 'progress'; readonly bytes: number }
  | { readonly type: 'pack'; readonly facts: PackFacts };
