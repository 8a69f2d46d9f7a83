import { CRC32C_INIT, recordCrc32c, updateCrc32c } from './crc32c.ts';
import { readU32 } from './little-endian.ts';
import type { SettledPages } from './settled-pages.ts';
import { imageApply, RecordHeaders } from './wal-blocks.ts';
import { SHORT_HEADER_BYTES, WAL_PAGE_BYTES } from './wal-pages.ts';
import { createWalReader } from './wal-reader.ts';
import {
  RMGR_BRIN,
  RMGR_BTREE,
  RMGR_GIN,
  RMGR_GIST,
  RMGR_HASH,
  RMGR_HEAP,
  RMGR_HEAP2,
  RMGR_SEQUENCE,
  RMGR_XLOG,
  type WalRecord,
} from './wal-record.ts';

/**
 * Takes out of the log what a replay need not do: a record that changes nothing but settled pages becomes one that does nothing
 * (XLOG_NOOP), in its place, as long as it was, with its CRC. Whatever else a record says remains.
 *
 * Of a record that changes other pages too all is done. A settled page that it overwrites whole is then what it was at that time,
 * so it is no longer settled: what follows is replayed. Where it is changed but not overwritten, redo finds that the page is of
 * a later time, and leaves it. The log may be left as it is from any place on: all of it, from there, is right as well.
 *
 * The visibility maps of relations that have settled pages must not be replayed either: they stay as they are, with the bits
 * of all pages taken away that were changed since. Redo clears more of them, and sets none but by what is not thinned.
 *
 * @source access/transam/xlogutils.c, XLogReadBufferForRedoExtended: an image is restored whatever the page is, anything else
 * only where the page's LSN is lower than the record's
 */
export interface WalThinner {
  /** Changes the bytes of the segment that follows the one before. Of a part of a log whose CRCs were verified. */
  thin(segment: Uint8Array): void;
  /** How many records do nothing any more, and how many were looked at. */
  readonly counts: { readonly thinned: number; readonly records: number };
}

/** @source access/xlogrecord.h, XLogRecord; catalog/pg_control.h */
const INFO_OFFSET = 16;
const RMGR_OFFSET = 17;
const CRC_OFFSET = 20;
const XLOG_NOOP = 0x20;
const OPERATION_MASK = 0x70;
const ANY_OPERATION_MASK = 0xf0;

/** @source access/heapam_xlog.h */
const HEAP_TRUNCATE = 0x30;
const HEAP_INPLACE = 0x70;
const HEAP2_REWRITE = 0x00;
const HEAP2_VISIBLE = 0x40;
const HEAP2_NEW_CID = 0x70;
/** @source catalog/pg_control.h */
const FPI_FOR_HINT = 0xa0;
const FPI = 0xb0;
const FORK_MAIN = 0;
const FORK_VISIBILITY = 2;

/**
 * Where the flags of the image of a record's first page are. @source access/xlogrecord.h: the header of a record, that of a block,
 * and length and hole of its image
 */
const FIRST_IMAGE_FLAGS = 24 + 4 + 4;

/** Begins with the segment at `startLsn`; `settled` is used up. */
export function createWalThinner(options: {
  readonly segmentSize: number;
  readonly startLsn: bigint;
  readonly settled: SettledPages;
}): WalThinner {
  return new Thinner(options);
}

class Thinner implements WalThinner {
  counts = { thinned: 0, records: 0 };
  readonly #settled: SettledPages;
  readonly #reader: ReturnType<typeof createWalReader>;
  readonly #headers = new RecordHeaders();
  readonly #segmentSize: number;
  #segment: Uint8Array = new Uint8Array(0);
  /** Of the segment, in bytes from the first. */
  #segmentAt: number;
  /** From here on nothing is changed any more. */
  #hasEnded = false;

  constructor(options: {
    readonly segmentSize: number;
    readonly startLsn: bigint;
    readonly settled: SettledPages;
  }) {
    this.#settled = options.settled;
    this.#segmentSize = options.segmentSize;
    this.#segmentAt = -options.segmentSize;
    this.#reader = createWalReader({
      segmentSize: options.segmentSize,
      startLsn: options.startLsn,
      verifyCrc: false,
      onRecord: record => this.#look(record),
    });
  }

  thin(segment: Uint8Array): void {
    this.#segment = segment;
    this.#segmentAt += this.#segmentSize;
    if (this.#hasEnded) return;
    this.#reader.push(segment);
    // What follows is not of one piece with it.
    if (this.#reader.end !== null || segment.length !== this.#segmentSize) this.#hasEnded = true;
  }

  #look(record: WalRecord): void {
    if (this.#hasEnded) return;
    const headers = this.#headers;
    headers.read(record);
    if (headers.count === 0) return;
    this.counts.records += 1;
    // Of one that began in the segment before, that one is written already.
    const isWhole = record.at >= this.#segmentAt;
    if (isWhole && changesPagesOnly(record) && this.#isSettled()) this.#drop(record);
    else this.#keep(record, isWhole);
  }

  #isSettled(): boolean {
    const { count, tablespace, database, file, fork, block } = this.#headers;
    for (let index = 0; index < count; index += 1) {
      const [space, base, name] = [tablespace[index]!, database[index]!, file[index]!];
      const isSettled =
        fork[index] === FORK_MAIN
          ? this.#settled.has(space, base, name, block[index]!)
          : fork[index] === FORK_VISIBILITY && this.#settled.hasRelation(space, base, name);
      if (!isSettled) return false;
    }
    return true;
  }

  #keep(record: WalRecord, isWhole: boolean): void {
    const { count, tablespace, database, file, fork, block, overwritten } = this.#headers;
    for (let index = 0; index < count; index += 1) {
      if (overwritten[index] === 0) continue;
      const [space, base, name] = [tablespace[index]!, database[index]!, file[index]!];
      if (fork[index] === FORK_MAIN) this.#settled.remove(space, base, name, block[index]!);
      else if (fork[index] === FORK_VISIBILITY && this.#settled.hasRelation(space, base, name)) {
        const isTaken = isWhole && index === 0 && this.#withoutImage(record);
        // That map is what it was then, for pages whose changes were taken out before; those that follow must not be.
        if (!isTaken) this.#hasEnded = true;
      }
    }
  }

  /** Makes it a record that does nothing. Its transaction's number stays: redo goes by that too. */
  #drop(record: WalRecord): void {
    const at = record.at - this.#segmentAt;
    const crc = readU32(record.bytes, record.start + CRC_OFFSET);
    this.#put(at, INFO_OFFSET, XLOG_NOOP);
    this.#put(at, RMGR_OFFSET, RMGR_XLOG);
    this.#putCrc(at, (crc ^ crcChange(record.info ^ XLOG_NOOP, record.rmgr ^ RMGR_XLOG)) >>> 0);
    this.counts.thinned += 1;
  }

  /** Lets a record that sets bits of a visibility map not restore the image of it. @returns false: it is none */
  #withoutImage(record: WalRecord): boolean {
    if (record.rmgr !== RMGR_HEAP2 || (record.info & OPERATION_MASK) !== HEAP2_VISIBLE) return false;
    const bytes = record.bytes.slice(record.start, record.start + record.length);
    const apply = imageApply(record.majorVersion);
    if ((bytes[FIRST_IMAGE_FLAGS]! & apply) === 0) return false;
    bytes[FIRST_IMAGE_FLAGS]! &= ~apply;
    const at = record.at - this.#segmentAt;
    this.#put(at, FIRST_IMAGE_FLAGS, bytes[FIRST_IMAGE_FLAGS]!);
    this.#putCrc(at, recordCrc32c(bytes, 0, bytes.length));
    return true;
  }

  #putCrc(at: number, crc: number): void {
    for (let byte = 0; byte < 4; byte += 1) this.#put(at, CRC_OFFSET + byte, (crc >>> (8 * byte)) & 0xff);
  }

  /** Changes a byte of a record that starts at `at` in the segment; no more than one page ends before it. */
  #put(at: number, offset: number, value: number): void {
    const isBehind = (at % WAL_PAGE_BYTES) + offset >= WAL_PAGE_BYTES;
    this.#segment[at + offset + (isBehind ? SHORT_HEADER_BYTES : 0)] = value;
  }
}

/**
 * Whether redo of such a record does nothing but change the pages it names, and the bits of visibility maps: the maps of free
 * space, which it also tells, are none that anybody relies on.
 */
function changesPagesOnly({ rmgr, info }: WalRecord): boolean {
  const operation = info & OPERATION_MASK;
  switch (rmgr) {
    case RMGR_XLOG:
      return (info & ANY_OPERATION_MASK) === FPI || (info & ANY_OPERATION_MASK) === FPI_FOR_HINT;
    case RMGR_HEAP:
      return operation !== HEAP_TRUNCATE && operation !== HEAP_INPLACE;
    case RMGR_HEAP2:
      return operation !== HEAP2_REWRITE && operation !== HEAP2_NEW_CID;
    case RMGR_BTREE:
    case RMGR_HASH:
    case RMGR_GIN:
    case RMGR_GIST:
    case RMGR_SEQUENCE:
    case RMGR_BRIN:
      return true;
    default:
      return false;
  }
}

/** What a record's CRC changes by when these bits of its info and of its resource manager do. A CRC is linear. */
function crcChange(info: number, rmgr: number): number {
  return changeByInfo[info]! ^ changeByRmgr[rmgr]!;
}

const BYTES = 256;
const [changeByInfo, changeByRmgr] = [0, 1].map(place =>
  Int32Array.from({ length: BYTES }, (_, bits) => {
    // They stand in front of two bytes of padding, and those in front of the CRC, are what it sees last.
    const [none, changed] = [new Uint8Array(4), new Uint8Array(4)];
    changed[place] = bits;
    return updateCrc32c(CRC32C_INIT, none, 0, 4) ^ updateCrc32c(CRC32C_INIT, changed, 0, 4);
  }),
) as [Int32Array, Int32Array];
