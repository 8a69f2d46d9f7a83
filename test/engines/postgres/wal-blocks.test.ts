import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PageSet } from '../../../src/engines/postgres/change-map-pages.ts';
import { crc32c } from '../../../src/engines/postgres/crc32c.ts';
import { type BlockReference, forEachBlock } from '../../../src/engines/postgres/wal-blocks.ts';
import type { PostgresMajorVersion } from '../../../src/engines/postgres/wal-pages.ts';
import { RECORD_HEADER_BYTES, recordAt, type WalRecord } from '../../../src/engines/postgres/wal-record.ts';
import { decodeStorage, type StorageEvent } from '../../../src/engines/postgres/wal-storage.ts';
import { type BlockToBuild, withBlocks } from './wal-records.ts';

const relation = { tablespace: 1663, database: 5, file: 16_384 };
const other = { tablespace: 1664, database: 0, file: 1262 };

function recordOf(
  content: Uint8Array,
  facts: {
    readonly rmgr?: number;
    readonly info?: number;
    readonly majorVersion?: PostgresMajorVersion;
  } = {},
): WalRecord {
  const bytes = new Uint8Array(RECORD_HEADER_BYTES + content.length);
  bytes.set(content, RECORD_HEADER_BYTES);
  new DataView(bytes.buffer).setUint32(0, bytes.length, true);
  bytes[16] = facts.info ?? 0;
  bytes[17] = facts.rmgr ?? 11;
  return recordAt(bytes, {
    origin: 0x500_0000n,
    at: 40,
    endsAt: 800,
    majorVersion: facts.majorVersion ?? 18,
  });
}

function blocksOf(record: WalRecord): BlockReference[] {
  const blocks: BlockReference[] = [];
  forEachBlock(record, block => blocks.push(block));
  return blocks;
}

test('pages of several relations and forks - each with what redo does to it', () => {
  const blocks: BlockToBuild[] = [
    { relation, block: 7 },
    { relation, block: 4_294_967_290, fork: 2, sameRelation: true, willInit: true },
    { relation: other, block: 0, image: { bytes: 200, apply: true } },
    { relation: other, block: 1, fork: 1, sameRelation: true, image: { bytes: 100, apply: false } },
  ];
  expect(blocksOf(recordOf(withBlocks(blocks, Uint8Array.of(1, 2, 3))))).toEqual([
    { relation, fork: 0, block: 7, overwritten: false },
    { relation, fork: 2, block: 4_294_967_290, overwritten: true },
    { relation: other, fork: 0, block: 0, overwritten: true },
    { relation: other, fork: 1, block: 1, overwritten: false },
  ]);
});

test('an image of PostgreSQL 14 - has another bit for being applied', () => {
  const content = withBlocks([{ relation, block: 1, image: { bytes: 64, apply: true } }], new Uint8Array(0));
  // The byte of the image's flags: behind the block's header, length and hole.
  content[8] = 0x01 | 0x04;
  expect(blocksOf(recordOf(content, { majorVersion: 14 }))).toMatchObject([{ overwritten: true }]);
  content[8] = 0x01;
  expect(blocksOf(recordOf(content, { majorVersion: 14 }))).toMatchObject([{ overwritten: false }]);
});

test('headers that do not add up - CORRUPT, whatever they say', () => {
  const good = withBlocks(
    [
      { relation, block: 1 },
      { relation, block: 2, sameRelation: true },
    ],
    Uint8Array.of(1),
  );
  const corrupt = expect.objectContaining({ code: 'CORRUPT' });
  expect(() => blocksOf(recordOf(good.subarray(0, good.length - 1)))).toThrow(corrupt);
  const orphan = withBlocks([{ relation, block: 1, sameRelation: true }], new Uint8Array(0));
  expect(() => blocksOf(recordOf(orphan))).toThrow(corrupt);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), content => {
      try {
        blocksOf(recordOf(content));
      } catch (error) {
        expect(error).toEqual(corrupt);
      }
    }),
  );
});

test('changes of files - as every version writes them', () => {
  const u32 = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
  const event = (
    rmgr: number,
    info: number,
    main: Uint8Array,
    majorVersion: PostgresMajorVersion = 18,
  ): StorageEvent | null => decodeStorage(recordOf(withBlocks([], main), { rmgr, info, majorVersion }));
  expect(event(2, 0x10, u32(1663, 5, 16_384, 1))).toMatchObject({
    kind: 'relation created',
    relation,
    fork: 1,
  });
  expect(event(2, 0x20, u32(9, 1663, 5, 16_384, 7))).toMatchObject({
    kind: 'relation truncated',
    blocks: 9,
    forks: [0, 1, 2],
  });
  expect(event(4, 0x00, u32(77, 1663, 1, 1664))).toMatchObject({
    kind: 'database created',
    database: 77,
    source: { database: 1, tablespace: 1664 },
  });
  expect(event(4, 0x10, u32(77, 1663))).toMatchObject({ kind: 'database created', source: null });
  expect(event(4, 0x20, u32(77, 2, 1663, 1700))).toMatchObject({
    kind: 'database dropped',
    tablespaces: [1663, 1700],
  });
  // Release 14 has no logged copies, and drops under the number that they got.
  expect(event(4, 0x10, u32(77, 1, 1663), 14)).toMatchObject({
    kind: 'database dropped',
    tablespaces: [1663],
  });
  const path = new TextEncoder().encode('/mnt/fast\0');
  expect(event(5, 0x00, new Uint8Array([...u32(1700), ...path]))).toMatchObject({
    tablespace: 1700,
    path: '/mnt/fast',
  });
  expect(event(5, 0x10, u32(1700))).toMatchObject({ kind: 'tablespace dropped', tablespace: 1700 });
  expect(event(130, 0x01, u32(1))).toMatchObject({ kind: 'unknown', rmgr: 130 });
  expect(event(130, 0x00, u32(1))).toBeNull();
  expect(event(10, 0x01, u32(1))).toBeNull();
});

test('a set of pages - what was added, ascending, with the mark of its first mention', () => {
  const page = fc.record({
    fork: fc.nat(5),
    block: fc.oneof(fc.nat(100), fc.nat(5000), fc.integer({ min: 0xffff_ff00, max: 0xffff_ffff })),
    mark: fc.nat(1),
  });
  fc.assert(
    fc.property(fc.array(page, { maxLength: 6000, size: 'max' }), pages => {
      const set = new PageSet();
      const wanted = new Map<string, number>();
      for (const { fork, block, mark } of pages) {
        set.add(fork, block, mark);
        const key = `${fork}/${block}`;
        if (!wanted.has(key)) wanted.set(key, mark);
      }
      const found: [string, number][] = [];
      const order: number[] = [];
      set.forEachFork((fork, blocks, marks) => {
        for (const [index, block] of blocks.entries()) {
          found.push([`${fork}/${block}`, marks[index]!]);
          order.push(fork * 2 ** 32 + block);
        }
      });
      expect(new Map(found)).toEqual(wanted);
      expect(found.length).toBe(set.size);
      expect(order).toEqual(order.toSorted((a, b) => a - b));
    }),
    { numRuns: 30 },
  );
});

test('the CRC of bytes of any length - is that of one table, a byte at a time', () => {
  const table = Array.from({ length: 256 }, (_, byte) => {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    return crc;
  });
  const plain = (bytes: Uint8Array): number =>
    ~bytes.reduce((crc, byte) => table[(crc ^ byte) & 0xff]! ^ (crc >>> 8), -1) >>> 0;
  const all = Uint8Array.from({ length: 150_000 }, (_, index) => (index * 7 + (index >> 7) * 13) & 0xff);
  for (const length of [
    0, 1, 7, 8, 9, 100, 127, 128, 129, 143, 144, 145, 1000, 8168, 49_151, 49_152, 49_153, 149_000,
  ])
    for (const start of [0, 3]) {
      const bytes = all.subarray(start, start + length);
      expect(crc32c(all, start, start + length)).toBe(plain(bytes));
    }
  // "123456789", as every description of the CRC has it.
  expect(crc32c(new TextEncoder().encode('123456789'))).toBe(0xe3069283);
});
