import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compileWasmSource, wasmSources } from '../../../scripts/build-wasm.ts';
import { createPageChecker, type PageChecker } from '../../../src/engines/postgres/page-checksum.ts';
import { isNewPage, pageLsn } from '../../../src/engines/postgres/page-header.ts';

const CHECKSUM_AT = 8;
const UPPER_AT = 14;

/** Fills every page with something of its own and gives it the checksum it must have as this block. */
function fillPages(checker: PageChecker, firstBlock: number, seed: number): number {
  const { buffer, blockSize } = checker;
  const pages = Math.floor(buffer.length / blockSize);
  for (let at = 0; at < buffer.length; at += 1) buffer[at] = (at * 31 + (at >> 8) * seed) & 0xff;
  for (let page = 0; page < pages; page += 1) {
    buffer[page * blockSize + UPPER_AT] = 1;
    setChecksum(checker, page, firstBlock);
  }
  return pages;
}

function setChecksum(checker: PageChecker, page: number, firstBlock: number): void {
  const checksum = checker.expectedChecksum(page, firstBlock + page);
  checker.buffer[page * checker.blockSize + CHECKSUM_AT] = checksum & 0xff;
  checker.buffer[page * checker.blockSize + CHECKSUM_AT + 1] = checksum >> 8;
}

const baseOffsets = [
  0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c, 0xf8d4474f,
  0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb, 0xe58f764b, 0x187636bc,
  0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4, 0x783125bb, 0x6ca8eaa2, 0xe407eac6,
  0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
];

/** The formula of storage/checksum_impl.h, word by word. */
function plainChecksum(page: Uint8Array, block: number): number {
  const copy = page.slice();
  copy.fill(0, CHECKSUM_AT, CHECKSUM_AT + 2);
  const words = new Uint32Array(copy.buffer);
  const mix = (sum: number, word: number): number => Math.imul(sum ^ word, 16777619) ^ ((sum ^ word) >>> 17);
  let folded = block;
  baseOffsets.forEach((offset, column) => {
    let sum = offset;
    for (let row = 0; row < words.length; row += 32) sum = mix(sum, words[row + column]!);
    folded ^= mix(mix(sum, 0), 0);
  });
  return ((folded >>> 0) % 65535) + 1;
}

describe('page checksums', () => {
  test.each(wasmSources)('the committed module - is what its source compiles to', async source => {
    expect(await readFile(source.output, 'utf8')).toBe(await compileWasmSource(source));
  });

  // What pageinspect's page_checksum(page, block) answers on PostgreSQL 15 for the page built here.
  test.each([
    [0, 34495],
    [1, 34496],
    [131072, 34497],
    [2147483647, 63810],
  ])('the same page as block %i - the checksum that the server computes', (block, checksum) => {
    const checker = createPageChecker(8192);
    for (let i = 0; i < 8192; i += 1) checker.buffer[i] = (i * i + 7 * i + Math.floor(i / 256)) % 251;
    expect(checker.expectedChecksum(0, block)).toBe(checksum);
    expect(checker.check(8192, block)).toEqual([0]);
    setChecksum(checker, 0, block);
    expect(checker.check(8192, block)).toEqual([]);
  });

  test('the stored checksum - does not count', () => {
    const checker = createPageChecker(8192);
    fillPages(checker, 0, 3);
    const before = checker.expectedChecksum(0, 0);
    checker.buffer[CHECKSUM_AT] = 0xaa;
    checker.buffer[CHECKSUM_AT + 1] = 0x55;
    expect(checker.expectedChecksum(0, 0)).toBe(before);
  });

  test.each([1024, 2048, 4096, 8192, 16384, 32768])(
    'any page of %i bytes as any block - what the formula gives',
    blockSize => {
      const checker = createPageChecker(4 * blockSize, blockSize);
      fc.assert(
        fc.property(fc.nat(), fc.nat(0xffff_fffe), fc.nat(3), (seed, block, page) => {
          fillPages(checker, 0, seed);
          const bytes = checker.buffer.subarray(page * blockSize, (page + 1) * blockSize);
          expect(checker.expectedChecksum(page, block)).toBe(plainChecksum(bytes, block));
        }),
        { numRuns: 20 },
      );
    },
  );

  test('every bit of a page flipped in turn - found, but for the one in 65,536 that 16 bits must miss', () => {
    const checker = createPageChecker(3 * 8192);
    fillPages(checker, 7, 11);
    let missed = 0;
    for (let bit = 8192 * 8; bit < 2 * 8192 * 8; bit += 1) {
      checker.buffer[bit >> 3]! ^= 1 << (bit & 7);
      const bad = checker.check(checker.buffer.length, 7);
      checker.buffer[bit >> 3]! ^= 1 << (bit & 7);
      if (bad.length === 0) missed += 1;
      else if (bad.length > 1 || bad[0] !== 1) expect.fail(`bit ${bit}: pages ${bad} are said to be bad`);
    }
    expect(missed).toBeLessThanOrEqual(3);
    expect(checker.check(checker.buffer.length, 7)).toEqual([]);
  });

  test('pages in the wrong place - found', () => {
    const checker = createPageChecker(4 * 8192);
    fillPages(checker, 0, 3);
    expect(checker.check(4 * 8192, 1)).toEqual([0, 1, 2, 3]);
    checker.buffer.copyWithin(0, 8192, 2 * 8192);
    expect(checker.check(4 * 8192, 0)).toEqual([0]);
  });

  test('pages never initialised - good when all zeros, bad otherwise', () => {
    const checker = createPageChecker(3 * 8192);
    fillPages(checker, 0, 3);
    checker.buffer.fill(0, 8192, 2 * 8192);
    expect(isNewPage(checker.buffer, 1)).toBe(true);
    expect(isNewPage(checker.buffer, 0)).toBe(false);
    expect(checker.check(3 * 8192, 0)).toEqual([]);
    for (const at of [0, 100, 8191]) {
      checker.buffer[8192 + at] = 1;
      expect(checker.check(3 * 8192, 0)).toEqual([1]);
      checker.buffer[8192 + at] = 0;
    }
  });

  test('a part of the buffer, and a part of a page at its end - only whole pages within it are checked', () => {
    const checker = createPageChecker(1 << 20);
    fillPages(checker, 0, 9);
    for (const page of [0, 5, 127]) checker.buffer[page * 8192 + 4000]! ^= 1;
    expect(checker.check(1 << 20, 0)).toEqual([0, 5, 127]);
    expect(checker.check(6 * 8192, 0)).toEqual([0, 5]);
    expect(checker.check(6 * 8192 - 1, 0)).toEqual([0]);
    expect(checker.check(0, 0)).toEqual([]);
    expect(() => checker.check((1 << 20) + 1, 0)).toThrow('do not fit');
  });

  test('checking - leaves the buffer as it is', () => {
    const checker = createPageChecker(3 * 8192 + 5);
    fillPages(checker, 0, 9);
    checker.buffer[100]! ^= 1;
    const before = checker.buffer.slice();
    checker.check(checker.buffer.length, 0);
    expect(Buffer.compare(checker.buffer, before)).toBe(0);
  });
});

describe('page headers', () => {
  test('the LSN of a page - read with its high half first', () => {
    const buffer = new Uint8Array(2 * 8192);
    buffer.set([0x16, 0, 0, 0x80, 0x48, 0xd8, 0x74, 0xb3], 8192);
    expect(pageLsn(buffer, 1)).toBe(0x80000016_b374d848n);
    expect(pageLsn(buffer, 0)).toBe(0n);
    expect(pageLsn(buffer, 8, 1024)).toBe(0x80000016_b374d848n);
  });
});
