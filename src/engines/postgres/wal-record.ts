import { AppError } from '../../base/errors.ts';
import { readU16, readU32, readU64 } from './little-endian.ts';
import { formatLsn } from './lsn.ts';
import type { PostgresMajorVersion } from './wal-pages.ts';

/** @source access/xlogrecord.h, XLogRecord */
export const RECORD_HEADER_BYTES = 24;

/** Resource managers, by what a record's `rmgr` says. @source access/rmgrlist.h */
export const RMGR_XLOG = 0;
export const RMGR_XACT = 1;
export const RMGR_SMGR = 2;
export const RMGR_DATABASE = 4;
export const RMGR_TABLESPACE = 5;
export const RMGR_STANDBY = 8;
export const RMGR_HEAP2 = 9;
export const RMGR_HEAP = 10;
export const RMGR_BTREE = 11;
export const RMGR_HASH = 12;
export const RMGR_GIN = 13;
export const RMGR_GIST = 14;
export const RMGR_SEQUENCE = 15;
export const RMGR_BRIN = 17;
export const RMGR_LAST_BUILT_IN = 21;
export const RMGR_FIRST_CUSTOM = 128;

/**
 * One record of the log. The reader fills the same object for every record, and its bytes may lie in the buffer that
 * was pushed: both are valid only until the callback returns. Copy what is to be kept.
 */
export interface WalRecord {
  readonly majorVersion: PostgresMajorVersion;
  /** Where it starts. */
  readonly lsn: bigint;
  /** Where the next one can start: behind its padding, and for a switch of segments behind the segment. */
  readonly endLsn: bigint;
  /**
   * The same two places in bytes from the start of the first segment that was read: exact for 9 PB of log, and an order of
   * magnitude faster than bigints.
   */
  readonly at: number;
  readonly endsAt: number;
  /** Where the record before it starts. */
  readonly prevLsn: bigint;
  /** The lower 32 bits; 0 when no transaction wrote it. Within a subtransaction, the subtransaction's. */
  readonly xid: number;
  readonly rmgr: number;
  /** The upper four bits are the resource manager's own. */
  readonly info: number;
  /** Where its bytes are: `bytes[start, start + length)`, header included, page headers taken out. */
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly length: number;
}

/**
 * The record that the reader fills and callbacks see. Its positions become bigints only when asked for: most records are
 * passed over.
 */
export class CurrentRecord implements WalRecord {
  majorVersion: PostgresMajorVersion = 18;
  bytes: Uint8Array = new Uint8Array(0);
  start = 0;
  length = 0;
  xid = 0;
  rmgr = 0;
  info = 0;
  at = 0;
  endsAt = 0;
  readonly #origin: bigint;

  constructor(origin: bigint) {
    this.#origin = origin;
  }

  get lsn(): bigint {
    return this.#origin + BigInt(this.at);
  }

  get endLsn(): bigint {
    return this.#origin + BigInt(this.endsAt);
  }

  get prevLsn(): bigint {
    return (
      (BigInt(readU32(this.bytes, this.start + 12)) << 32n) | BigInt(readU32(this.bytes, this.start + 8))
    );
  }
}

/** A record whose bytes are all there, header included, outside a reader. Its positions count from `origin`. */
export function recordAt(
  bytes: Uint8Array,
  place: {
    readonly origin: bigint;
    readonly at: number;
    readonly endsAt: number;
    readonly majorVersion: PostgresMajorVersion;
  },
): WalRecord {
  const { origin, at, endsAt, majorVersion } = place;
  return {
    majorVersion,
    at,
    endsAt,
    lsn: origin + BigInt(at),
    endLsn: origin + BigInt(endsAt),
    prevLsn: readU64(bytes, 8),
    xid: readU32(bytes, 4),
    rmgr: bytes[17] ?? 0,
    info: bytes[16] ?? 0,
    bytes,
    start: 0,
    length: bytes.length,
  };
}

/** Block ids that are none. @source access/xlogrecord.h */
const BLOCK_ID_LAST = 32;
const BLOCK_ID_TOPLEVEL_XID = 252;
const BLOCK_ID_ORIGIN = 253;
const BLOCK_ID_DATA_LONG = 254;
const BLOCK_ID_DATA_SHORT = 255;

const BLOCK_HAS_IMAGE = 0x10;
const BLOCK_SAME_RELATION = 0x80;
const BLOCK_HEADER_BYTES = 4;
const BLOCK_NUMBER_BYTES = 4;
const RELATION_BYTES = 12;
const IMAGE_HEADER_BYTES = 5;
const IMAGE_HAS_HOLE = 0x01;
/** Release 15 gave every method of compression a bit and moved BKPIMAGE_APPLY, which had been 0x04. */
const imageCompressed = (version: PostgresMajorVersion): number => (version === 14 ? 0x02 : 0x1c);

/**
 * The main data of a record, what the resource manager says beside its pages: the last bytes of the record.
 * @throws CORRUPT when the record's headers do not add up, which its CRC leaves to a bug or to malice
 * @source access/transam/xlogreader.c, DecodeXLogRecord
 */
export function mainDataOf(record: WalRecord): RecordData {
  const { bytes } = record;
  const end = record.start + record.length;
  let at = record.start + RECORD_HEADER_BYTES;
  /** What follows the headers: images and data of the pages, then the main data. */
  let dataBytes = 0;
  let mainBytes = 0;
  while (at < end - dataBytes) {
    const id = bytes[at]!;
    if (id <= BLOCK_ID_LAST) {
      const flags = bytes[at + 1]!;
      dataBytes += readU16(bytes, at + 2);
      at += BLOCK_HEADER_BYTES;
      if (flags & BLOCK_HAS_IMAGE) {
        dataBytes += readU16(bytes, at);
        const image = bytes[at + 4]!;
        const hasHoleLength = image & IMAGE_HAS_HOLE && image & imageCompressed(record.majorVersion);
        at += IMAGE_HEADER_BYTES + (hasHoleLength ? 2 : 0);
      }
      if (!(flags & BLOCK_SAME_RELATION)) at += RELATION_BYTES;
      at += BLOCK_NUMBER_BYTES;
    } else if (id === BLOCK_ID_ORIGIN) {
      at += 3;
    } else if (id === BLOCK_ID_TOPLEVEL_XID) {
      at += 5;
    } else if (id === BLOCK_ID_DATA_SHORT || id === BLOCK_ID_DATA_LONG) {
      mainBytes = id === BLOCK_ID_DATA_SHORT ? bytes[at + 1]! : readU32(bytes, at + 1);
      dataBytes += mainBytes;
      at += id === BLOCK_ID_DATA_SHORT ? 2 : 5;
      // Main data is announced last.
      break;
    } else {
      throw malformed(record.lsn, `block id ${id} is not known`);
    }
  }
  if (at + dataBytes !== end) throw malformed(record.lsn, 'its parts are not as long as the whole');
  return new RecordData(bytes, end - mainBytes, end, record);
}

/** Reads a record's data from its start to its end, and never beyond. Every read throws CORRUPT where nothing is left. */
export class RecordData {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  readonly #record: WalRecord;
  #at: number;

  constructor(bytes: Uint8Array, start: number, end: number, record: WalRecord) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
    this.#record = record;
  }

  get remainingBytes(): number {
    return this.#end - this.#at;
  }

  u8(): number {
    return this.#bytes[this.#take(1)]!;
  }

  u16(): number {
    return readU16(this.#bytes, this.#take(2));
  }

  u32(): number {
    return readU32(this.#bytes, this.#take(4));
  }

  u64(): bigint {
    return readU64(this.#bytes, this.#take(8));
  }

  i64(): bigint {
    return BigInt.asIntN(64, this.u64());
  }

  /** The next bytes, as a view that is valid as long as the record is. */
  take(bytes: number): Uint8Array {
    const at = this.#take(bytes);
    return this.#bytes.subarray(at, at + bytes);
  }

  skip(bytes: number): void {
    this.#take(bytes);
  }

  /** A count, and that many items of `itemBytes`; leaves them unread. */
  count(itemBytes: number): number {
    const count = this.u32();
    if (count * itemBytes > this.remainingBytes)
      throw malformed(this.#record.lsn, `it cannot hold ${count} items`);
    return count;
  }

  /** The text in the next `bytes`, or in all that is left, up to a zero byte. What is no UTF-8 becomes U+FFFD. */
  text(bytes = this.remainingBytes): string {
    const field = this.take(bytes);
    const zero = field.indexOf(0);
    return new TextDecoder().decode(zero === -1 ? field : field.subarray(0, zero));
  }

  #take(bytes: number): number {
    const at = this.#at;
    if (bytes > this.remainingBytes) throw malformed(this.#record.lsn, 'it ends before its content');
    this.#at = at + bytes;
    return at;
  }
}

function malformed(lsn: bigint, why: string): AppError {
  return new AppError('CORRUPT', `unable to read the log record at ${formatLsn(lsn)}: ${why}`);
}
