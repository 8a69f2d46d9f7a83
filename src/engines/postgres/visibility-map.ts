import { createPageChecker } from './page-checksum.ts';
import { isNewPage } from './page-header.ts';

/** @source access/visibilitymap.c: behind the header of a page, two bits for each page of the main fork */
const PAGE_HEADER_BYTES = 24;
const CHECKSUM_OFFSET = 8;
const PAGES_PER_BYTE = 4;
const BITS = 0b11;

/** Takes the bits, all-visible and all-frozen, of `blocks` away from a visibility map, in its place. */
export function clearVisibility(
  map: Uint8Array,
  blocks: Uint32Array,
  { blockSize, checksums }: { readonly blockSize: number; readonly checksums: boolean },
): void {
  const perPage = (blockSize - PAGE_HEADER_BYTES) * PAGES_PER_BYTE;
  const changed = new Set<number>();
  for (const block of blocks) {
    const page = Math.trunc(block / perPage);
    const at = page * blockSize + PAGE_HEADER_BYTES + Math.trunc((block % perPage) / PAGES_PER_BYTE);
    if ((page + 1) * blockSize > map.length) break;
    const bits = BITS << (2 * (block % PAGES_PER_BYTE));
    if ((map[at]! & bits) === 0) continue;
    map[at]! &= ~bits;
    changed.add(page);
  }
  if (!checksums || changed.size === 0) return;
  const checker = createPageChecker(blockSize, blockSize);
  for (const page of changed) {
    const bytes = map.subarray(page * blockSize, (page + 1) * blockSize);
    if (isNewPage(bytes, 0, blockSize)) continue;
    checker.buffer.set(bytes);
    const checksum = checker.expectedChecksum(0, page);
    bytes[CHECKSUM_OFFSET] = checksum & 0xff;
    bytes[CHECKSUM_OFFSET + 1] = checksum >>> 8;
  }
}
