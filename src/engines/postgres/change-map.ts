import type { WalEvent } from './wal-events.ts';
import type { StorageEvent } from './wal-storage.ts';
import type { RelationFile } from './wal-transactions.ts';

/**
 * Which pages a range of the log changed, and which of them a replay of the range rebuilds by itself.
 *
 * What it says is decided by each page's first reference at or after `from` (facts of a rewind in place):
 * - before `target`, with an image that redo applies or with WILL_INIT: redo overwrites the page without reading it;
 * - otherwise, or when the first reference is at or after `target`: the page must come from the base.
 *
 * Pages of a database that was the source of a file copy before `target` (CREATE DATABASE ... STRATEGY file_copy, ALTER
 * DATABASE ... SET TABLESPACE) are never left: redo reads them from the disk. That rule is applied here already. What the
 * log cannot say is the caller's: block 0 of an SP-GiST index changes without being logged, and relations that were
 * created, dropped or truncated (`storage`) need their unnamed pages too.
 */
export interface ChangeMap {
  readonly from: bigint;
  /** Null: only the set of blocks counts, as for a backup. */
  readonly target: bigint | null;
  readonly to: bigint;
  /** By {@link forkKey}. */
  readonly forks: ReadonlyMap<string, ForkChanges>;
  /** In the order of the log. */
  readonly storage: readonly StorageEvent[];
  /** What the log says of itself, changes of settings among it; in the order of the log. */
  readonly events: readonly WalEvent[];
}

export interface ForkChanges {
  readonly relation: RelationFile;
  /** 0 main, 1 free space map, 2 visibility map, 3 initial. */
  readonly fork: number;
  /** Ascending. */
  readonly blocks: Uint32Array;
  /** One byte for each of `blocks`: 1 where redo overwrites the page whole before it is read; always 0 without a target. */
  readonly overwrittenFirst: Uint8Array;
}

/** The key of a fork in {@link ChangeMap}: `tablespace/database/file/fork`. */
export function forkKey(relation: RelationFile, fork: number): string {
  return `${relation.tablespace}/${relation.database}/${relation.file}/${fork}`;
}
