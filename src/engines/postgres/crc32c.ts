/**
 * CRC-32C (Castagnoli), which PostgreSQL puts on log records and on its control file; `zlib.crc32` is another one.
 *
 * It takes eight bytes a step from eight tables ("slicing by 8"), which in JavaScript is three times as fast as one
 * table.
 * @source port/pg_crc32c_sb8.c
 */
const REVERSED_POLYNOMIAL = 0x82f63b78;
const tables = buildTables();
// One binding for each table: indexing an array of tables in the loop would cost a check per byte.
const [table0, table1, table2, table3, table4, table5, table6, table7] = tables;

/** What a CRC starts from. */
export const CRC32C_INIT = -1;

/**
 * Adds `bytes[start, end)` to a CRC that began with {@link CRC32C_INIT}. The result is not yet inverted: see
 * {@link finishCrc32c}.
 */
export function updateCrc32c(crc: number, bytes: Uint8Array, start: number, end: number): number {
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

function buildTables(): Tables {
  const built = Array.from({ length: 8 }, () => new Int32Array(256)) as Tables;
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ REVERSED_POLYNOMIAL : crc >>> 1;
    built[0][byte] = crc;
  }
  // Table n holds the CRC of the byte followed by n zero bytes.
  for (let zeros = 1; zeros < 8; zeros += 1) {
    const previous = built[zeros - 1]!;
    previous.forEach((crc, byte) => {
      built[zeros]![byte] = built[0][crc & 0xff]! ^ (crc >>> 8);
    });
  }
  return built;
}
