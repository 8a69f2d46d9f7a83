import { readU16 } from './little-endian.ts';
import type { RecordHeaders } from './wal-blocks.ts';
import { RMGR_HEAP2, type WalRecord } from './wal-record.ts';

export const ROWS_NONE = -1;
export const ROWS_INSERTED = 0;
export const ROWS_UPDATED = 1;
export const ROWS_DELETED = 2;
export type RowsKind = typeof ROWS_NONE | typeof ROWS_INSERTED | typeof ROWS_UPDATED | typeof ROWS_DELETED;

/** @source access/heapam_xlog.h, XLOG_HEAP_* and XLOG_HEAP2_* */
const OPERATION_MASK = 0x70;
const HEAP_INSERT = 0x00;
const HEAP_DELETE = 0x10;
const HEAP_UPDATE = 0x20;
const HEAP_HOT_UPDATE = 0x40;
const HEAP_CONFIRM = 0x50;
const HEAP2_MULTI_INSERT = 0x50;

/** @source access/heapam_xlog.h, xl_heap_insert and xl_heap_delete: where the flags are in the main data */
const INSERT_FLAGS_AT = 2;
const INSERT_IS_SPECULATIVE = 1 << 2;
const DELETE_FLAGS_AT = 7;
const DELETE_IS_SUPER = 1 << 3;
/** @source xl_heap_delete.offnum, xl_heap_update.old_offnum: behind the xid */
const OLD_OFFSET_AT = 4;
/** @source xl_heap_multi_insert: the flags, aligned, then the count */
const MULTI_INSERT_COUNT_AT = 2;

/**
 * What a record of HEAP or HEAP2 does to the rows of the relation of its first page. A row that an update moves to another
 * partition is deleted in one and inserted in the other. The speculative insert of ON CONFLICT counts once it is confirmed.
 */
export function rowsKind(record: WalRecord, headers: RecordHeaders): RowsKind {
  if (headers.count === 0) return ROWS_NONE;
  const operation = record.info & OPERATION_MASK;
  if (record.rmgr === RMGR_HEAP2) return operation === HEAP2_MULTI_INSERT ? ROWS_INSERTED : ROWS_NONE;
  switch (operation) {
    case HEAP_INSERT:
      return flagsAt(record, headers, INSERT_FLAGS_AT) & INSERT_IS_SPECULATIVE ? ROWS_NONE : ROWS_INSERTED;
    case HEAP_CONFIRM:
      return ROWS_INSERTED;
    case HEAP_UPDATE:
    case HEAP_HOT_UPDATE:
      return ROWS_UPDATED;
    case HEAP_DELETE:
      // What takes a speculative insert back, which was not counted.
      return flagsAt(record, headers, DELETE_FLAGS_AT) & DELETE_IS_SUPER ? ROWS_NONE : ROWS_DELETED;
    default:
      return ROWS_NONE;
  }
}

/** How many rows, of a record that {@link rowsKind} has a kind for. */
export function rowsCount(record: WalRecord, headers: RecordHeaders): number {
  if (record.rmgr !== RMGR_HEAP2) return 1;
  const at = headers.mainStart + MULTI_INSERT_COUNT_AT;
  return at + 2 <= headers.mainEnd ? readU16(record.bytes, at) : 0;
}

/**
 * Where the row was that a record of HEAP deletes or updates, as PostgreSQL writes a `ctid`.
 * @source access/heapam_xlog.h, xl_heap_delete, xl_heap_update: of an update, the old page is named second if it is another
 */
export function oldRowPosition(record: WalRecord, headers: RecordHeaders): string {
  const page = headers.block[headers.count > 1 ? 1 : 0]!;
  return `(${page},${readU16(record.bytes, headers.mainStart + OLD_OFFSET_AT)})`;
}

function flagsAt(record: WalRecord, headers: RecordHeaders, offset: number): number {
  const at = headers.mainStart + offset;
  return at < headers.mainEnd ? record.bytes[at]! : 0;
}
