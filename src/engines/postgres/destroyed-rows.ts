import { FIRST_USER_FILE } from './catalog-snapshot.ts';
import { readU16 } from './little-endian.ts';
import { RowPositions } from './row-positions.ts';
import { RecordHeaders, relationOf } from './wal-blocks.ts';
import { RMGR_HEAP, RMGR_HEAP2, type WalRecord } from './wal-record.ts';
import type { RelationFile } from './wal-transactions.ts';

/** @source access/heapam_xlog.h, XLOG_HEAP_* and XLOG_HEAP2_*; XLOG_HEAP_INIT_PAGE */
const OPERATION_MASK = 0x70;
const INIT_PAGE = 0x80;
const HEAP_INSERT = 0x00;
const HEAP_DELETE = 0x10;
const HEAP_UPDATE = 0x20;
const HEAP_HOT_UPDATE = 0x40;
const HEAP2_MULTI_INSERT = 0x50;

/** @source access/heapam_xlog.h: where xl_heap_insert, _multi_insert, _delete and _update hold what, from their start */
const INSERT_OFFSET_AT = 0;
const MULTI_INSERT_COUNT_AT = 2;
const MULTI_INSERT_OFFSETS_AT = 4;
const OLD_OFFSET_AT = 4;
const OLD_BITS_AT = 6;
const FLAGS_AT = 7;
const NEW_OFFSET_AT = 12;
/** XLHL_KEYS_UPDATED: of an update, a column of a unique index got another value. */
const BITS_KEYS_UPDATED = 0x10;
const DELETE_IS_SUPER = 1 << 3;
const DELETE_IS_PARTITION_MOVE = 1 << 4;

/** The rows of one file that a transaction destroyed: row versions that were there before it and are not after it. */
export interface DestroyedRows {
  readonly relation: RelationFile;
  readonly deleted: RowPositions;
  /** Replaced by another version under the same unique values. */
  readonly updated: RowPositions;
  /** Replaced by a version with other values in a unique index. */
  readonly rekeyed: RowPositions;
  /** Put into another partition by an update. */
  readonly moved: RowPositions;
  /** How many versions that the transaction itself had made by updates or inserts it deleted again. */
  readonly ownDeleted: number;
}

interface Gathered {
  readonly relation: RelationFile;
  readonly deleted: RowPositions;
  readonly updated: RowPositions;
  readonly rekeyed: RowPositions;
  readonly moved: RowPositions;
  /** Versions made by the transaction. */
  readonly own: RowPositions;
}

/**
 * Gathers from the log where the rows lay that one transaction destroyed. The parts of the log may come in any order: no line
 * pointer that a running transaction has emptied is used again before it ends.
 */
export class DestroyedRowsFinder {
  readonly #xids: ReadonlySet<number>;
  readonly #headers = new RecordHeaders();
  readonly #byFile = new Map<string, Gathered>();
  #last: Gathered | null = null;

  /** @param xids the transaction's and those of its committed subtransactions, lower 32 bits */
  constructor(xids: ReadonlySet<number>) {
    this.#xids = xids;
  }

  /** @throws CORRUPT when the record is not what its headers promise */
  addRecord(record: WalRecord): void {
    if ((record.rmgr !== RMGR_HEAP && record.rmgr !== RMGR_HEAP2) || !this.#xids.has(record.xid)) return;
    const headers = this.#headers;
    headers.read(record);
    // Catalogs: what DDL does to them is no row of a user's.
    if (headers.count === 0 || (headers.file[0] ?? 0) < FIRST_USER_FILE) return;
    const operation = record.info & OPERATION_MASK;
    if (record.rmgr === RMGR_HEAP2) {
      if (operation === HEAP2_MULTI_INSERT) this.#addMultiInsert(record);
    } else if (operation === HEAP_INSERT) {
      this.#gathered().own.add(headers.block[0]!, this.#u16(record, INSERT_OFFSET_AT));
    } else if (operation === HEAP_DELETE) {
      this.#addDelete(record);
    } else if (operation === HEAP_UPDATE || operation === HEAP_HOT_UPDATE) {
      this.#addUpdate(record);
    }
  }

  /** What was destroyed, once all of the transaction's log was added. */
  finish(): DestroyedRows[] {
    const found: DestroyedRows[] = [];
    for (const { own, ...rows } of this.#byFile.values()) {
      const ownDeleted = rows.deleted.subtract(own);
      for (const each of [rows.updated, rows.rekeyed, rows.moved]) each.subtract(own);
      const size = rows.deleted.size + rows.updated.size + rows.rekeyed.size + rows.moved.size;
      if (size > 0) found.push({ ...rows, ownDeleted });
    }
    return found;
  }

  #addDelete(record: WalRecord): void {
    const flags = this.#u8(record, FLAGS_AT);
    // What takes a speculative insert of ON CONFLICT back.
    if (flags & DELETE_IS_SUPER) return;
    const { deleted, moved } = this.#gathered();
    const positions = flags & DELETE_IS_PARTITION_MOVE ? moved : deleted;
    positions.add(this.#headers.block[0]!, this.#u16(record, OLD_OFFSET_AT));
  }

  #addUpdate(record: WalRecord): void {
    const { block, count } = this.#headers;
    const { updated, rekeyed, own } = this.#gathered();
    // The new version's page comes first; the old one's only where it is another.
    const oldBlock = count > 1 ? block[1]! : block[0]!;
    const positions = this.#u8(record, OLD_BITS_AT) & BITS_KEYS_UPDATED ? rekeyed : updated;
    positions.add(oldBlock, this.#u16(record, OLD_OFFSET_AT));
    own.add(block[0]!, this.#u16(record, NEW_OFFSET_AT));
  }

  #addMultiInsert(record: WalRecord): void {
    const { own } = this.#gathered();
    const count = this.#u16(record, MULTI_INSERT_COUNT_AT);
    for (let index = 0; index < count; index += 1) {
      // On a new page they are the first ones, and not listed.
      const offset =
        record.info & INIT_PAGE ? index + 1 : this.#u16(record, MULTI_INSERT_OFFSETS_AT + 2 * index);
      own.add(this.#headers.block[0]!, offset);
    }
  }

  #gathered(): Gathered {
    const headers = this.#headers;
    const last = this.#last?.relation;
    if (
      this.#last !== null &&
      last?.file === headers.file[0] &&
      last?.database === headers.database[0] &&
      last?.tablespace === headers.tablespace[0]
    )
      return this.#last;
    const relation = relationOf(headers, 0);
    const key = `${relation.tablespace}/${relation.database}/${relation.file}`;
    let found = this.#byFile.get(key);
    if (found === undefined) {
      const [deleted, updated, rekeyed, moved, own] = Array.from({ length: 5 }, () => new RowPositions());
      found = { relation, deleted: deleted!, updated: updated!, rekeyed: rekeyed!, moved: moved!, own: own! };
      this.#byFile.set(key, found);
    }
    this.#last = found;
    return found;
  }

  #u8(record: WalRecord, at: number): number {
    return record.bytes[this.#headers.mainStart + at] ?? 0;
  }

  #u16(record: WalRecord, at: number): number {
    return readU16(record.bytes, this.#headers.mainStart + at);
  }
}
