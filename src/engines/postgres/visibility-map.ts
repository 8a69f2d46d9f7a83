import { readU16 } from './little-endian.ts';
import { createPageChecker } from './page-checksum.ts';
import { isNewPage, pageLsn, setPageLsn } from './page-header.ts';

/** @source access/visibilitymap.c: behind the header of a page, two bits for each page of the main fork */
const PAGE_HEADER_BYTES = 24;
const CHECKSUM_OFFSET = 8;
const PAGES_PER_BYTE = 4;
const BITS = 0b11;

/**
 * Takes the bits, all-visible and all-frozen, of `blocks` away from a visibility map, in its place. A page of it that is damaged says
 * nothing any more: a new checksum would make what it says look right. Nor is any of its pages of a later time than `upTo`: a server
 * whose log does not reach as far cannot write such a page.
 * @source access/transam/xlog.c, XLogFlush
 */
export function clearVisibility(
  map: Uint8Array,
  blocks: Uint32Array,
  by: { readonly blockSize: number; readonly checksums: boolean; readonly upTo: bigint },
): void {
  const { blockSize, checksums } = by;
  if (checksums) eachChecksum(map, blockSize, (page, isRight) => void (isRight || page.fill(0)));
  const perPage = (blockSize - PAGE_HEADER_BYTES) * PAGES_PER_BYTE;
  for (const block of blocks) {
    const page = Math.trunc(block / perPage);
    const at = page * blockSize + PAGE_HEADER_BYTES + Math.trunc((block % perPage) / PAGES_PER_BYTE);
    if ((page + 1) * blockSize > map.length) break;
    map[at]! &= ~(BITS << (2 * (block % PAGES_PER_BYTE)));
  }
  for (let page = 0; (page + 1) * blockSize <= map.length; page += 1)
    if (pageLsn(map, page, blockSize) > by.upTo) setPageLsn(map, page, by.upTo, blockSize);
  if (!checksums) return;
  eachChecksum(map, blockSize, (page, isRight, checksum) => {
    if (isRight) return;
    page[CHECKSUM_OFFSET] = checksum & 0xff;
    page[CHECKSUM_OFFSET + 1] = checksum >>> 8;
  });
}

/** Whether each page of a map, but for new ones, has the checksum it must have. */
function eachChecksum(
  map: Uint8Array,
  blockSize: number,
  visit: (page: Uint8Array, isRight: boolean, checksum: number) => void,
): void {
  const checker = createPageChecker(blockSize, blockSize);
  for (let page = 0; (page + 1) * blockSize <= map.length; page += 1) {
    const bytes = map.subarray(page * blockSize, (page + 1) * blockSize);
    if (isNewPage(bytes, 0, blockSize)) continue;
    checker.buffer.set(bytes);
    const checksum = checker.expectedChecksum(0, page);
    visit(bytes, readU16(bytes, CHECKSUM_OFFSET) === checksum, checksum);
  }
}
