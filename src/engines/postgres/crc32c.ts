import { assert } from '../../base/errors.ts';
import { KIB } from '../../base/sizes.ts';
import { crc32cBase64 } from './crc32c.base64.ts';

/** @source access/xlogrecord.h, XLogRecord: its size, and where its CRC is, which covers all but itself */
const RECORD_HEADER_BYTES = 24;
const RECORD_CRC_OFFSET = 20;

/**
 * CRC-32C (Castagnoli), which PostgreSQL puts on log records and on its control file; `zlib.crc32` is another one.
 *
 * Short runs of bytes take eight a step from eight tables ("slicing by 8"), 1.2 GB/s in JavaScript. Longer ones are worth
 * being copied into WebAssembly memory, where sixteen a step make 2.7 GB/s with the copy.
 * @source port/pg_crc32c_sb8.c
 */
const REVERSED_POLYNOMIAL = 0x82f63b78;
const TABLES = 16;
const TABLE_ITEMS = 256;
const tables = buildTables();
// One binding for each table: indexing an array of tables in the loop would cost a check per byte.
const [table0, table1, table2, table3, table4, table5, table6, table7] = tables as Tables;

/** What a CRC starts from. */
export const CRC32C_INIT = -1;

/**
 * Adds `bytes[start, end)` to a CRC that began with {@link CRC32C_INIT}. The result is not yet inverted: see
 * {@link finishCrc32c}.
 */
export function updateCrc32c(crc: number, bytes: Uint8Array, start: number, end: number): number {
  return end - start >= COPIED_FROM_BYTES
    ? updateCopied(crc, bytes, start, end)
    : updateShort(crc, bytes, start, end);
}

function updateShort(crc: number, bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  let sum = crc;
  for (const blockEnd = end - 7; at < blockEnd; at += 8) {
    const low = sum ^ (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24));
    sum =
      table7[low & 0xff]! ^
      table6[(low >>> 8) & 0xff]! ^
      table5[(low >>> 16) & 0xff]! ^
      table4[low >>> 24]! ^
      table3[bytes[at + 4]!]! ^
      table2[bytes[at + 5]!]! ^
      table1[bytes[at + 6]!]! ^
      table0[bytes[at + 7]!]!;
  }
  for (; at < end; at += 1) sum = table0[(sum ^ bytes[at]!) & 0xff]! ^ (sum >>> 8);
  return sum;
}

/** From here on the copy pays: measured, 80 bytes are even. */
const COPIED_FROM_BYTES = 128;
const WINDOW_AT = TABLES * TABLE_ITEMS * 4;
const WINDOW_BYTES = 64 * KIB - WINDOW_AT;
/** The second page of the memory: for {@link loadRecords}. */
const LOADED_AT = 64 * KIB;
const LOADED_BYTES = 64 * KIB;
let copied: { readonly window: Uint8Array; readonly room: Uint8Array; readonly wasm: Crc32cExports } | null =
  null;
/** What lies there. */
let loaded: { readonly bytes: Uint8Array; readonly start: number; readonly end: number } | null = null;

function updateCopied(crc: number, bytes: Uint8Array, start: number, end: number): number {
  copied ??= startWasm();
  const { window, wasm } = copied;
  let sum = crc;
  for (let at = start; at < end; at += WINDOW_BYTES) {
    const part = bytes.subarray(at, Math.min(at + WINDOW_BYTES, end));
    window.set(part);
    sum = wasm.update(sum, WINDOW_AT, WINDOW_AT + part.length);
  }
  return sum;
}

function startWasm(): NonNullable<typeof copied> {
  const memory = new WebAssembly.Memory({ initial: 2 });
  const module = new WebAssembly.Module(Buffer.from(crc32cBase64, 'base64'));
  const wasm = new WebAssembly.Instance(module, { env: { memory } }).exports as Crc32cExports;
  tables.forEach((table, index) => {
    new Int32Array(memory.buffer, index * TABLE_ITEMS * 4, TABLE_ITEMS).set(table);
  });
  const window = new Uint8Array(memory.buffer, WINDOW_AT, WINDOW_BYTES);
  return { window, room: new Uint8Array(memory.buffer, LOADED_AT, LOADED_BYTES), wasm };
}

/**
 * Makes `bytes[start, end)`, at most 64 KiB, ready for {@link recordCrc32c}: copied once for all records in it, even the
 * shortest gain, twice the speed. To be called again whenever the bytes may have changed.
 */
export function loadRecords(bytes: Uint8Array, start: number, end: number): void {
  assert(end - start <= LOADED_BYTES, `${end - start} bytes of records are too many`);
  copied ??= startWasm();
  copied.room.set(bytes.subarray(start, end));
  loaded = { bytes, start, end };
}

/** The CRC of the log record `bytes[start, end)`, as it has to stand in its header. */
export function recordCrc32c(bytes: Uint8Array, start: number, end: number): number {
  // Nothing else was loaded meanwhile, in nearly every case.
  if (copied !== null && loaded?.bytes === bytes && start >= loaded.start && end <= loaded.end) {
    const at = LOADED_AT - loaded.start;
    return copied.wasm.record(start + at, end + at) >>> 0;
  }
  const data = updateCrc32c(CRC32C_INIT, bytes, start + RECORD_HEADER_BYTES, end);
  return finishCrc32c(updateCrc32c(data, bytes, start, start + RECORD_CRC_OFFSET));
}

/** The CRC as PostgreSQL stores it, as an unsigned 32-bit number. */
export function finishCrc32c(crc: number): number {
  return ~crc >>> 0;
}

/** The CRC-32C of `bytes[start, end)`. */
export function crc32c(bytes: Uint8Array, start = 0, end = bytes.length): number {
  return finishCrc32c(updateCrc32c(CRC32C_INIT, bytes, start, end));
}

type Tables = [
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
];

function buildTables(): Int32Array[] {
  const first = new Int32Array(TABLE_ITEMS);
  for (let byte = 0; byte < TABLE_ITEMS; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ REVERSED_POLYNOMIAL : crc >>> 1;
    first[byte] = crc;
  }
  const built = [first];
  // Table n holds the CRC of the byte followed by n zero bytes.
  while (built.length < TABLES) built.push(built.at(-1)!.map(crc => first[crc & 0xff]! ^ (crc >>> 8)));
  return built;
}

/** What crc32c.wat exports; the numbers are 32-bit integers. */
interface Crc32cExports {
  update(crc: number, at: number, end: number): number;
  record(at: number, end: number): number;
}

/** As in page-checksum.ts: Node's types know WebAssembly as a namespace of types only. */
declare const WebAssembly: {
  readonly Memory: new (descriptor: { initial: number }) => { readonly buffer: ArrayBuffer };
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: Record<string, object>) => { readonly exports: unknown };
};
