import { crc32c } from '../../../src/engines/postgres/crc32c.ts';

/** A record to write: its main data alone, or all of its content. */
export interface RecordToBuild {
  readonly rmgr: number;
  readonly info: number;
  readonly xid?: number;
  /** Main data; the header that announces it is added. */
  readonly main?: Uint8Array;
  /** All that follows the record header, in place of `main`. */
  readonly content?: Uint8Array;
}

export interface BuiltRecord {
  readonly lsn: bigint;
  readonly endLsn: bigint;
  readonly prevLsn: bigint;
  readonly length: number;
  readonly rmgr: number;
  readonly info: number;
  readonly xid: number;
}

export interface WalToBuild {
  readonly segmentSize: number;
  readonly startLsn: bigint;
  readonly records: readonly RecordToBuild[];
  readonly magic?: number;
  readonly systemIdentifier?: bigint;
  readonly timeline?: number;
  readonly prevLsn?: bigint;
}

export const MAGIC = { 14: 0xd10d, 15: 0xd110, 16: 0xd113, 17: 0xd116, 18: 0xd118 } as const;

const PAGE = 8192;

/**
 * Writes a log as the server does, so that the reader can be tested with records of any length in any place. It shares
 * only the CRC with the reader; that real logs are read is shown by the tests on real servers.
 */
export function buildWal(wal: WalToBuild): { readonly bytes: Uint8Array; readonly records: BuiltRecord[] } {
  const writer = new Writer(wal);
  let prevLsn = wal.prevLsn ?? 0n;
  const records = wal.records.map(record => {
    const bytes = recordBytes(record, prevLsn);
    const lsn = writer.append(bytes);
    if (record.rmgr === 0 && (record.info & 0xf0) === 0x40) writer.finishSegment();
    prevLsn = lsn;
    const { rmgr, info, xid = 0 } = record;
    return { lsn, endLsn: writer.lsn, prevLsn: bytes.prevLsn, length: bytes.record.length, rmgr, info, xid };
  });
  return { bytes: writer.bytes(), records };
}

function recordBytes(record: RecordToBuild, prevLsn: bigint): { record: Uint8Array; prevLsn: bigint } {
  const content = record.content ?? withDataHeader(record.main ?? new Uint8Array(0));
  const bytes = new Uint8Array(24 + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint32(4, record.xid ?? 0, true);
  view.setBigUint64(8, prevLsn, true);
  bytes[16] = record.info;
  bytes[17] = record.rmgr;
  bytes.set(content, 24);
  // The CRC runs over the content first, then over the header before it.
  const inCrcOrder = new Uint8Array(content.length + 20);
  inCrcOrder.set(content);
  inCrcOrder.set(bytes.subarray(0, 20), content.length);
  view.setUint32(20, crc32c(inCrcOrder), true);
  return { record: bytes, prevLsn };
}

function withDataHeader(main: Uint8Array): Uint8Array {
  if (main.length === 0) return main;
  const header = main.length < 256 ? [255, main.length] : [254, 0, 0, 0, 0];
  const bytes = new Uint8Array(header.length + main.length);
  bytes.set(header);
  if (main.length >= 256) new DataView(bytes.buffer).setUint32(1, main.length, true);
  bytes.set(main, header.length);
  return bytes;
}

class Writer {
  readonly #wal: WalToBuild;
  #buffer = new Uint8Array(64 * PAGE);
  #length = 0;

  constructor(wal: WalToBuild) {
    this.#wal = wal;
  }

  get lsn(): bigint {
    return this.#wal.startLsn + BigInt(this.#length);
  }

  bytes(): Uint8Array {
    return this.#buffer.slice(0, this.#length);
  }

  /** Writes a record and its padding; returns where it starts. */
  append({ record }: { record: Uint8Array }): bigint {
    if (this.#length % PAGE === 0) this.#pageHeader(0);
    const lsn = this.lsn;
    for (let done = 0; done < record.length; ) {
      if (this.#length % PAGE === 0) this.#pageHeader(record.length - done);
      const part = record.subarray(done, done + PAGE - (this.#length % PAGE));
      this.#put(part);
      done += part.length;
    }
    this.#put(new Uint8Array((8 - (this.#length % 8)) % 8));
    return lsn;
  }

  finishSegment(): void {
    const rest = Number(this.lsn % BigInt(this.#wal.segmentSize));
    if (rest > 0) this.#put(new Uint8Array(this.#wal.segmentSize - rest));
  }

  #pageHeader(remaining: number): void {
    const isLong = this.lsn % BigInt(this.#wal.segmentSize) === 0n;
    const bytes = new Uint8Array(isLong ? 40 : 24);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, this.#wal.magic ?? MAGIC[18], true);
    view.setUint16(2, (remaining > 0 ? 1 : 0) | (isLong ? 2 : 0), true);
    view.setUint32(4, this.#wal.timeline ?? 1, true);
    view.setBigUint64(8, this.lsn, true);
    view.setUint32(16, remaining, true);
    if (isLong) {
      view.setBigUint64(24, this.#wal.systemIdentifier ?? 7711141577650727535n, true);
      view.setUint32(32, this.#wal.segmentSize, true);
      view.setUint32(36, PAGE, true);
    }
    this.#put(bytes);
  }

  #put(bytes: Uint8Array): void {
    while (this.#length + bytes.length > this.#buffer.length) {
      const larger = new Uint8Array(this.#buffer.length * 2);
      larger.set(this.#buffer);
      this.#buffer = larger;
    }
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }
}
