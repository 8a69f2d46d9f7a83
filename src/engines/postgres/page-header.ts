/**
 * The header that every page of a relation file starts with, in the byte order of the CPU; every platform that this
 * program runs on is little-endian.
 * @source storage/bufpage.h, PageHeaderData
 */

/** The size of a page, unless the server was compiled for another: see `blockSize` of the control file. */
export const DEFAULT_BLOCK_SIZE = 8192;

/**
 * The position up to which the log must be flushed before this page may be written: the end of the last record that
 * changed it. 0 for a page that no record ever changed (new pages; hint bits on unlogged relations).
 */
export function pageLsn(buffer: Uint8Array, pageIndex: number, blockSize = DEFAULT_BLOCK_SIZE): bigint {
  const at = pageIndex * blockSize;
  // Two 32-bit halves, the high one first.
  return (BigInt(word(buffer, at)) << 32n) | BigInt(word(buffer, at + 4));
}

/** The checksum that covers it is the caller's. */
export function setPageLsn(buffer: Uint8Array, pageIndex: number, lsn: bigint, blockSize: number): void {
  const view = new DataView(buffer.buffer, buffer.byteOffset + pageIndex * blockSize, 8);
  view.setUint32(0, Number(lsn >> 32n), true);
  view.setUint32(4, Number(lsn & 0xffff_ffffn), true);
}

/** Whether the page was never initialised, as after a relation was extended and before the page was first used. */
export function isNewPage(buffer: Uint8Array, pageIndex: number, blockSize = DEFAULT_BLOCK_SIZE): boolean {
  const pdUpper = pageIndex * blockSize + 14;
  return buffer[pdUpper] === 0 && buffer[pdUpper + 1] === 0;
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}
