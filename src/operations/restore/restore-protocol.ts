import type { LogOwner } from '../../repository/log-archive.ts';
import type { Chunk } from '../../repository/manifest.ts';
import type { StorageLocation } from '../../storage/storage.ts';
import type { NewFile } from './new-files.ts';

/** A pack as a worker needs it: where it lies, and what its key is derived from. */
export interface PackAddress {
  readonly path: string;
  readonly id: string;
  readonly generation: number;
}

export interface RestoreWorkerStart {
  readonly location: StorageLocation;
  readonly keys: readonly (readonly [number, Uint8Array])[];
  readonly log: LogOwner;
  readonly packs: readonly PackAddress[];
}

export type RestoreTask =
  /** Chunks of a file, from byte `offset` of it on; `create` null: it exists already, at its full size. */
  | {
      readonly kind: 'chunks';
      readonly path: string;
      readonly target: string;
      readonly offset: number;
      readonly chunks: readonly Chunk[];
      readonly create: NewFile | null;
    }
  /** The same, without writing: opens and compares only. */
  | { readonly kind: 'check'; readonly path: string; readonly chunks: readonly Chunk[] }
  /** Every byte of a pack: its hash against the manifest's, then every frame. */
  | { readonly kind: 'pack'; readonly pack: number; readonly sha256: string; readonly sizeBytes: number }
  /** Every byte of a log file. */
  | { readonly kind: 'log-check'; readonly name: string }
  /** A whole log file; `name` in the archive, written to `target`. */
  | { readonly kind: 'log'; readonly name: string; readonly target: string; readonly create: NewFile };

export type RestoreBatch = { readonly tasks: readonly RestoreTask[] };

export type RestoreMessage =
  | { readonly type: 'batch'; readonly problems: readonly ObjectProblem[] }
  | { readonly type: 'progress'; readonly bytes: number };

/** An object that is damaged; `path` is the file it affects, where it is known. */
export interface ObjectProblem {
  readonly object: string;
  readonly message: string;
  readonly path?: string;
}
