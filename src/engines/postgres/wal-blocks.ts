import { AppError } from '../../base/errors.ts';
import { readU16, readU32 } from './little-endian.ts';
import { formatLsn } from './lsn.ts';
import type { PostgresMajorVersion } from './wal-pages.ts';
import { RECORD_HEADER_BYTES, type WalRecord } from './wal-record.ts';
import type { RelationFile } from './wal-transactions.ts';

/** A page that a record changes. */
export interface BlockReference {
  readonly relation: RelationFile;
  /** 0 main, 1 free space map, 2 visibility map, 3 initial. */
  readonly fork: number;
  readonly block: number;
  /** Redo overwrites the whole page without reading it: an image with APPLY, or WILL_INIT. */
  readonly overwritten: boolean;
}

/** Calls `visit` for every page that a record of any resource manager changes. @throws CORRUPT */
export function forEachBlock(record: WalRecord, visit: (reference: BlockReference) => void): void {
  const headers = new RecordHeaders();
  headers.read(record);
  for (let index = 0; index < headers.count; index += 1) {
    visit({
      relation: relationOf(headers, index),
      fork: headers.fork[index]!,
      block: headers.block[index]!,
      overwritten: headers.overwritten[index] === 1,
    });
  }
}

/** The relation of the block reference at `index`. */
export function relationOf(headers: RecordHeaders, index: number): RelationFile {
  return {
    tablespace: headers.tablespace[index]!,
    database: headers.database[index]!,
    file: headers.file[index]!,
  };
}

/** @source access/xlogrecord.h: XLR_MAX_BLOCK_ID and the ids that are none of a block */
const BLOCK_ID_LAST = 32;
const BLOCK_ID_TOPLEVEL_XID = 252;
const BLOCK_ID_ORIGIN = 253;
const BLOCK_ID_DATA_LONG = 254;
const BLOCK_ID_DATA_SHORT = 255;

/** @source access/xlogrecord.h, BKPBLOCK_* */
const FORK_MASK = 0x0f;
const HAS_IMAGE = 0x10;
const WILL_INIT = 0x40;
const SAME_RELATION = 0x80;

/** @source access/xlogrecord.h, BKPIMAGE_*: release 15 gave every method of compression a bit and moved APPLY */
const IMAGE_HAS_HOLE = 0x01;
/** The flag of an image that redo restores. */
export const imageApply = (version: PostgresMajorVersion): number => (version === 14 ? 0x04 : 0x02);
const IMAGE_COMPRESSED = 0x1c;
const IMAGE_COMPRESSED_14 = 0x02;

/**
 * The headers of one record: the pages it changes, and where its main data is. One object serves for all records of a log,
 * as making one for each page would cost more than the reading.
 *
 * @source access/transam/xlogreader.c, DecodeXLogRecord
 */
export class RecordHeaders {
  /** How many of the arrays' items are of this record. */
  count = 0;
  readonly tablespace: Uint32Array = new Uint32Array(BLOCK_ID_LAST + 1);
  readonly database: Uint32Array = new Uint32Array(BLOCK_ID_LAST + 1);
  readonly file: Uint32Array = new Uint32Array(BLOCK_ID_LAST + 1);
  readonly fork: Uint8Array = new Uint8Array(BLOCK_ID_LAST + 1);
  readonly block: Uint32Array = new Uint32Array(BLOCK_ID_LAST + 1);
  /** 1 where redo overwrites the whole page without reading it. */
  readonly overwritten: Uint8Array = new Uint8Array(BLOCK_ID_LAST + 1);
  /** The main data: the last bytes of the record. */
  mainStart = 0;
  mainEnd = 0;
  /** The transaction above the subtransaction that wrote it, as wal_level = logical says at its first record; else 0. */
  topXid = 0;

  /** @throws CORRUPT when the headers do not add up, which the CRC leaves to a bug or to malice */
  read(record: WalRecord): void {
    const { bytes } = record;
    const end = record.start + record.length;
    let at = record.start + RECORD_HEADER_BYTES;
    /** What follows the headers: images and data of the pages, then the main data. */
    let dataBytes = 0;
    let mainBytes = 0;
    this.count = 0;
    this.topXid = 0;
    while (at < end - dataBytes) {
      const id = bytes[at]!;
      if (id <= BLOCK_ID_LAST) {
        const next = this.#readBlock(record, at);
        dataBytes += this.#blockDataBytes;
        at = next;
      } else if (id === BLOCK_ID_DATA_SHORT) {
        mainBytes = bytes[at + 1]!;
        at += 2;
        // Main data is announced last.
        break;
      } else if (id === BLOCK_ID_DATA_LONG) {
        mainBytes = readU32(bytes, at + 1);
        at += 5;
        break;
      } else if (id === BLOCK_ID_ORIGIN) {
        at += 3;
      } else if (id === BLOCK_ID_TOPLEVEL_XID) {
        this.topXid = readU32(bytes, at + 1);
        at += 5;
      } else {
        throw malformed(record, `block id ${id} is not known`);
      }
    }
    if (at + dataBytes + mainBytes !== end) throw malformed(record, 'its parts are not as long as the whole');
    this.mainStart = end - mainBytes;
    this.mainEnd = end;
  }

  #blockDataBytes = 0;

  /** Reads one block's header at `at`; returns where the next one starts. */
  #readBlock(record: WalRecord, start: number): number {
    const { bytes } = record;
    const index = this.count;
    // Ids ascend, so that there cannot be more than the arrays hold; it is checked all the same.
    if (index > BLOCK_ID_LAST) throw malformed(record, 'it names too many pages');
    const flags = bytes[start + 1]!;
    let overwritten = (flags & WILL_INIT) !== 0;
    let dataBytes = readU16(bytes, start + 2);
    let at = start + 4;
    if (flags & HAS_IMAGE) {
      const image = bytes[at + 4]!;
      const is14 = record.majorVersion === 14;
      dataBytes += readU16(bytes, at);
      if (image & imageApply(record.majorVersion)) overwritten = true;
      at += 5;
      if (image & IMAGE_HAS_HOLE && image & (is14 ? IMAGE_COMPRESSED_14 : IMAGE_COMPRESSED)) at += 2;
    }
    if (flags & SAME_RELATION) {
      if (index === 0) throw malformed(record, 'its first page is of the relation of the page before it');
      this.tablespace[index] = this.tablespace[index - 1]!;
      this.database[index] = this.database[index - 1]!;
      this.file[index] = this.file[index - 1]!;
    } else {
      this.tablespace[index] = readU32(bytes, at);
      this.database[index] = readU32(bytes, at + 4);
      this.file[index] = readU32(bytes, at + 8);
      at += 12;
    }
    this.fork[index] = flags & FORK_MASK;
    this.block[index] = readU32(bytes, at);
    this.overwritten[index] = overwritten ? 1 : 0;
    this.count = index + 1;
    this.#blockDataBytes = dataBytes;
    return at + 4;
  }
}

function malformed(record: WalRecord, why: string): AppError {
  return new AppError('CORRUPT', `unable to read the log record at ${formatLsn(record.lsn)}: ${why}`);
}
