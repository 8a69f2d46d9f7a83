import { readU16 } from './little-endian.ts';
import type { RecordHeaders } from './wal-blocks.ts';
import { RMGR_HEAP2, type WalRecord } from './wal-record.ts';
import { ROWS_DELETED, ROWS_INSERTED, ROWS_NONE, ROWS_UPDATED, rowsCount, rowsKind } from './wal-rows.ts';

/**
 * Where in its table a version of a row lies, as one number: the block times 65,536, and the item in it. It is what
 * PostgreSQL calls ctid, and no two versions have the same at one time.
 */
export type RowPlace = number;

const PLACES_IN_BLOCK = 65_536;

/** As PostgreSQL writes it: `(17,4)`. */
export function formatRowPlace(place: RowPlace): string {
  return `(${blockOf(place)},${place % PLACES_IN_BLOCK})`;
}

/** The number of its page. */
export function blockOf(place: RowPlace): number {
  return Math.floor(place / PLACES_IN_BLOCK);
}

export interface RowChange {
  /** The version that is no longer valid; null of an insert. */
  readonly removed: RowPlace | null;
  /** Those that are now; none of a delete, one of an update. */
  readonly created: readonly RowPlace[];
}

/** @source access/heapam_xlog.h, xl_heap_insert, xl_heap_confirm, xl_heap_delete, xl_heap_update, xl_heap_multi_insert */
const INSERT_OFFSET_AT = 0;
const DELETE_OFFSET_AT = 4;
const UPDATE_OLD_OFFSET_AT = 4;
const UPDATE_NEW_OFFSET_AT = 12;
const MULTI_OFFSETS_AT = 4;
/** Of a page that the record makes anew its items are left out: they are the first ones. */
const INIT_PAGE = 0x80;

/** What a record of HEAP or HEAP2 does to rows of the relation of its first page; null where it does nothing to any. */
export function readRowChange(record: WalRecord, headers: RecordHeaders): RowChange | null {
  const kind = rowsKind(record, headers);
  if (kind === ROWS_NONE) return null;
  const offsetAt = (at: number): number => readU16(record.bytes, headers.mainStart + at);
  const page = placeOf(headers, 0);
  if (kind === ROWS_INSERTED) return { removed: null, created: insertedPlaces(record, headers) };
  if (kind === ROWS_DELETED) return { removed: page + offsetAt(DELETE_OFFSET_AT), created: [] };
  if (kind !== ROWS_UPDATED) return null;
  // The first page is that of the new version; the old one's is only named where it is another.
  const old = headers.count > 1 ? placeOf(headers, 1) : page;
  return { removed: old + offsetAt(UPDATE_OLD_OFFSET_AT), created: [page + offsetAt(UPDATE_NEW_OFFSET_AT)] };
}

function insertedPlaces(record: WalRecord, headers: RecordHeaders): number[] {
  const page = placeOf(headers, 0);
  const at = headers.mainStart;
  if (record.rmgr !== RMGR_HEAP2) return [page + readU16(record.bytes, at + INSERT_OFFSET_AT)];
  const isInitial = (record.info & INIT_PAGE) !== 0;
  return Array.from({ length: rowsCount(record, headers) }, (_, index) =>
    isInitial ? page + index + 1 : page + readU16(record.bytes, at + MULTI_OFFSETS_AT + 2 * index),
  );
}

function placeOf(headers: RecordHeaders, index: number): number {
  return headers.block[index]! * PLACES_IN_BLOCK;
}
