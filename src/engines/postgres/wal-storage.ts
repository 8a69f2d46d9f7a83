import { AppError } from '../../base/errors.ts';
import type { WalRecord } from './wal-record.ts';
import type { RelationFile } from './wal-transactions.ts';

/**
 * Changes of files that records make beside those of pages. What a transaction drops is named by the record that ends
 * it, and appears here with that record's position.
 */
export type StorageEvent = { readonly lsn: bigint; readonly xid: number } & (
  | { readonly kind: 'relation created'; readonly relation: RelationFile; readonly fork: number }
  /** Cut to `blocks` pages; `forks` names those that are cut: the free space and visibility maps to what `blocks` needs. */
  | {
      readonly kind: 'relation truncated';
      readonly relation: RelationFile;
      readonly blocks: number;
      readonly forks: readonly number[];
    }
  /** All forks of it: dropped, truncated or rewritten (`outcome` commit), or created by what was rolled back (abort). */
  | {
      readonly kind: 'relation dropped';
      readonly relation: RelationFile;
      readonly outcome: 'commit' | 'abort';
    }
  /** An empty directory, `source` null: its pages are logged. Else a copy of the source's files as they are on the disk. */
  | {
      readonly kind: 'database created';
      readonly database: number;
      readonly tablespace: number;
      readonly source: { readonly database: number; readonly tablespace: number } | null;
    }
  | {
      readonly kind: 'database dropped';
      readonly database: number;
      readonly tablespaces: readonly number[];
    }
  | { readonly kind: 'tablespace created'; readonly tablespace: number; readonly path: string }
  | { readonly kind: 'tablespace dropped'; readonly tablespace: number }
  /** An extension's record that says it changes files in a way of its own: no map of changes is complete behind it. */
  | { readonly kind: 'unknown'; readonly rmgr: number }
);

/**
 * Reads a record that changes files; null for any other. Drops of relations are not here: see
 * {@link decodeTransaction}.
 * @throws CORRUPT when its content is not what its headers promise
 */
export function decodeStorage(record: WalRecord): StorageEvent | null {
  throw new AppError('BUG', `not built yet: ${record.rmgr}`);
}
