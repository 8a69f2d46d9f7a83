import type { Chunk, DamagedPage } from '../../repository/manifest.ts';
import type { StorageLocation } from '../../storage/storage.ts';
import type { Ranges } from '../backup/ranges.ts';
import type { NewFile } from '../restore/new-files.ts';
import type { PackAddress } from '../restore/restore-protocol.ts';

export interface RewindWorkerStart {
  readonly location: StorageLocation;
  readonly keys: readonly (readonly [number, Uint8Array])[];
  readonly packs: readonly PackAddress[];
  /** Where each thread writes the pages that it keeps, in a file of its own. */
  readonly safety: string;
  readonly blockSize: number;
}

/** `length` bytes of a frame's body, from `start` on, belong at `at` of the file. */
export interface Piece {
  readonly chunk: Chunk;
  readonly start: number;
  readonly at: number;
  readonly length: number;
}

export type RewindTask =
  /** Copies ranges of a file into the safety copy, as far as they are there. */
  | { readonly kind: 'keep'; readonly path: string; readonly source: string; readonly ranges: Ranges }
  /**
   * Writes pieces of the backup over a file, which is first made as long as in the backup; `create`: it is made anew.
   * `copies` are taken from the file `kept` instead, and from the backup only where that is too short or its pages are
   * damaged; `firstBlock` null: its pages carry no checksums.
   */
  | {
      readonly kind: 'write';
      readonly path: string;
      readonly target: string;
      readonly sizeBytes: number;
      readonly create: NewFile | null;
      readonly pieces: readonly Piece[];
      readonly copies: readonly Piece[];
      readonly kept: { readonly path: string; readonly firstBlock: number | null };
    }
  /** Compares the checksums of pages; `ranges` null: of all. A file that is gone is none. */
  | {
      readonly kind: 'check';
      readonly path: string;
      readonly source: string;
      readonly firstBlock: number;
      readonly ranges: Ranges | null;
    };

export interface RewindBatch {
  readonly tasks: readonly RewindTask[];
  /** The last one of a step: what was written is put onto the disk. */
  readonly last?: boolean;
}

export type RewindMessage =
  | {
      readonly type: 'batch';
      readonly keptBytes: number;
      /** From the backup, and copied from files put aside. */
      readonly writtenBytes: number;
      readonly copiedBytes: number;
      /** Of frames, as stored. */
      readonly fetchedBytes: number;
      readonly checkedPages: number;
      readonly damaged: readonly DamagedPage[];
    }
  | { readonly type: 'progress'; readonly bytes: number };
