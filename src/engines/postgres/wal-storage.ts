import {
  mainDataOf,
  type RecordData,
  RMGR_DATABASE,
  RMGR_FIRST_CUSTOM,
  RMGR_SMGR,
  RMGR_TABLESPACE,
  type WalRecord,
} from './wal-record.ts';
import type { RelationFile, WalTransaction } from './wal-transactions.ts';

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

/** @source access/xlogrecord.h, XLR_SPECIAL_REL_UPDATE */
const CHANGES_FILES = 0x01;
const OPERATION_MASK = 0xf0;

/** @source catalog/storage_xlog.h */
const SMGR_CREATE = 0x10;
const SMGR_TRUNCATE = 0x20;
const TRUNCATE_FORKS = [
  { flag: 0x01, fork: 0 },
  { flag: 0x04, fork: 1 },
  { flag: 0x02, fork: 2 },
] as const;

/** @source commands/dbcommands_xlog.h; release 14 knew copies only, and counted its records otherwise */
const DATABASE_COPIED = 0x00;
const DATABASE_LOGGED = 0x10;
const DATABASE_DROPPED = 0x20;
const DATABASE_DROPPED_14 = 0x10;

/** @source commands/tablespace.h */
const TABLESPACE_CREATED = 0x00;
const TABLESPACE_DROPPED = 0x10;

/**
 * Reads a record that changes files; null for any other. Drops of relations are not here: see
 * {@link relationsDropped}.
 * @throws CORRUPT when its content is not what its headers promise
 */
export function decodeStorage(record: WalRecord): StorageEvent | null {
  switch (record.rmgr) {
    case RMGR_SMGR:
      return decodeRelation(record);
    case RMGR_DATABASE:
      return decodeDatabase(record);
    case RMGR_TABLESPACE:
      return decodeTablespace(record);
    default:
      return record.rmgr >= RMGR_FIRST_CUSTOM && record.info & CHANGES_FILES
        ? { kind: 'unknown', ...place(record), rmgr: record.rmgr }
        : null;
  }
}

/** The relations whose files go with the end of a transaction. */
export function relationsDropped(transaction: WalTransaction): StorageEvent[] {
  const { lsn, xid, kind, droppedRelations } = transaction;
  const outcome = kind === 'abort' || kind === 'abort prepared' ? 'abort' : 'commit';
  return droppedRelations.map(relation => ({ kind: 'relation dropped', lsn, xid, relation, outcome }));
}

function decodeRelation(record: WalRecord): StorageEvent | null {
  const data = mainDataOf(record);
  switch (record.info & OPERATION_MASK) {
    case SMGR_CREATE:
      return { kind: 'relation created', ...place(record), relation: readRelation(data), fork: data.u32() };
    case SMGR_TRUNCATE: {
      const blocks = data.u32();
      const relation = readRelation(data);
      const flags = data.u32();
      const forks = TRUNCATE_FORKS.filter(({ flag }) => flags & flag).map(({ fork }) => fork);
      return { kind: 'relation truncated', ...place(record), relation, blocks, forks };
    }
    default:
      return null;
  }
}

/** @source commands/dbcommands_xlog.h, xl_dbase_create_rec, xl_dbase_create_file_copy_rec, xl_dbase_drop_rec */
function decodeDatabase(record: WalRecord): StorageEvent | null {
  const data = mainDataOf(record);
  const operation = record.info & OPERATION_MASK;
  const dropped = record.majorVersion === 14 ? DATABASE_DROPPED_14 : DATABASE_DROPPED;
  if (operation === DATABASE_COPIED || (operation === DATABASE_LOGGED && operation !== dropped)) {
    const database = data.u32();
    const tablespace = data.u32();
    const source = operation === DATABASE_COPIED ? { database: data.u32(), tablespace: data.u32() } : null;
    return { kind: 'database created', ...place(record), database, tablespace, source };
  }
  if (operation !== dropped) return null;
  const database = data.u32();
  const tablespaces = Array.from({ length: data.count(4) }, () => data.u32());
  return { kind: 'database dropped', ...place(record), database, tablespaces };
}

function decodeTablespace(record: WalRecord): StorageEvent | null {
  const data = mainDataOf(record);
  switch (record.info & OPERATION_MASK) {
    case TABLESPACE_CREATED:
      return { kind: 'tablespace created', ...place(record), tablespace: data.u32(), path: data.text() };
    case TABLESPACE_DROPPED:
      return { kind: 'tablespace dropped', ...place(record), tablespace: data.u32() };
    default:
      return null;
  }
}

function readRelation(data: RecordData): RelationFile {
  return { tablespace: data.u32(), database: data.u32(), file: data.u32() };
}

function place(record: WalRecord): { lsn: bigint; xid: number } {
  return { lsn: record.lsn, xid: record.xid };
}
