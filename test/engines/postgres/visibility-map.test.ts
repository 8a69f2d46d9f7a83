import { describe, expect, test } from 'vitest';
import { createPageChecker } from '../../../src/engines/postgres/page-checksum.ts';
import { pageLsn } from '../../../src/engines/postgres/page-header.ts';
import { clearVisibility } from '../../../src/engines/postgres/visibility-map.ts';

const BLOCK = 8192;
const upTo = 0x7_0000_1000n;
const PER_PAGE = (BLOCK - 24) * 4;

/** Two pages of a map that say of every page that all of its rows are visible and frozen, with their checksums. */
function fullMap(): Uint8Array {
  const map = new Uint8Array(2 * BLOCK).fill(0xff);
  for (const page of [0, 1]) {
    // pd_lower, pd_upper, pd_special
    map.fill(0, page * BLOCK, page * BLOCK + 24);
    for (const [at, value] of [
      [12, 24],
      [14, BLOCK],
      [16, BLOCK],
    ] as const) {
      map[page * BLOCK + at] = value & 0xff;
      map[page * BLOCK + at + 1] = value >> 8;
    }
    setChecksum(map, page);
  }
  return map;
}

function checksumOf(map: Uint8Array, page: number): number {
  const checker = createPageChecker(BLOCK, BLOCK);
  checker.buffer.set(map.subarray(page * BLOCK, (page + 1) * BLOCK));
  return checker.expectedChecksum(0, page);
}

function setChecksum(map: Uint8Array, page: number): void {
  const checksum = checksumOf(map, page);
  map[page * BLOCK + 8] = checksum & 0xff;
  map[page * BLOCK + 9] = checksum >> 8;
}

const storedChecksum = (map: Uint8Array, page: number): number =>
  map[page * BLOCK + 8]! | (map[page * BLOCK + 9]! << 8);

/** The pages of the main fork of which the map says anything. */
function bitsOf(map: Uint8Array): Set<number> {
  const found = new Set<number>();
  for (let block = 0; block < 2 * PER_PAGE; block += 1) {
    const at = Math.trunc(block / PER_PAGE) * BLOCK + 24 + Math.trunc((block % PER_PAGE) / 4);
    if ((map[at]! >> (2 * (block % 4))) & 3) found.add(block);
  }
  return found;
}

describe('bits taken away', () => {
  const cleared = [0, 1, 6, PER_PAGE - 1, PER_PAGE, PER_PAGE + 5];

  test.each([true, false])(
    'page checksums %s - those bits and no others, and the checksum is right',
    checksums => {
      const map = fullMap();
      clearVisibility(map, Uint32Array.from(cleared), { blockSize: BLOCK, checksums, upTo });
      const left = bitsOf(map);
      expect(left.size).toBe(2 * PER_PAGE - cleared.length);
      for (const block of cleared) expect(left.has(block)).toBe(false);
      if (checksums) for (const page of [0, 1]) expect(storedChecksum(map, page)).toBe(checksumOf(map, page));
    },
  );

  test('pages behind what the map tells of, and none at all - it is as it was', () => {
    for (const blocks of [[], [2 * PER_PAGE, 4_000_000_000]]) {
      const map = fullMap();
      clearVisibility(map, Uint32Array.from(blocks), { blockSize: BLOCK, checksums: true, upTo });
      expect(map).toEqual(fullMap());
    }
  });

  test('a new page, all zeros - stays one', () => {
    const map = new Uint8Array(BLOCK);
    clearVisibility(map, Uint32Array.of(3), { blockSize: BLOCK, checksums: true, upTo });
    expect(map).toEqual(new Uint8Array(BLOCK));
  });

  test('a page of the map that is damaged - says nothing any more, instead of anything with a right checksum', () => {
    const map = fullMap();
    map[5000] = 0x0f;
    clearVisibility(map, Uint32Array.of(3), { blockSize: BLOCK, checksums: true, upTo });
    const left = bitsOf(map);
    expect([...left].some(block => block < PER_PAGE)).toBe(false);
    expect(left.size).toBe(PER_PAGE);
  });

  test.each([
    [0x7_0000_0fffn, 0x7_0000_0fffn],
    [0x8_0000_0000n, upTo],
  ])('a page of position %x - is of none later than that given, its checksum right', (then, now) => {
    const map = fullMap();
    new DataView(map.buffer).setUint32(0, Number(then >> 32n), true);
    new DataView(map.buffer).setUint32(4, Number(then & 0xffff_ffffn), true);
    setChecksum(map, 0);
    clearVisibility(map, new Uint32Array(0), { blockSize: BLOCK, checksums: true, upTo });
    expect(pageLsn(map, 0)).toBe(now);
    expect(storedChecksum(map, 0)).toBe(checksumOf(map, 0));
    expect(bitsOf(map).size).toBe(2 * PER_PAGE);
  });
});
