import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MIB } from '../../../src/base/sizes.ts';
import { SettledPages } from '../../../src/engines/postgres/settled-pages.ts';
import { createWalReader } from '../../../src/engines/postgres/wal-reader.ts';
import { createWalThinner, type WalThinner } from '../../../src/engines/postgres/wal-thinner.ts';
import { buildWal, MAGIC, type RecordToBuild } from './wal-builder.ts';
import { type BlockToBuild, withBlocks } from './wal-records.ts';

const segmentSize = MIB;
const startLsn = 0x7_0000_0000n;
const relation = { tablespace: 1663, database: 5, file: 16_400 };
const other = { tablespace: 1663, database: 5, file: 16_500 };
const HEAP = 10;
const HEAP2 = 9;
const BTREE = 11;
const VISIBLE = 0x40;
const NOOP = { rmgr: 0, info: 0x20 };

interface ReadRecord {
  readonly lsn: bigint;
  readonly rmgr: number;
  readonly info: number;
  readonly xid: number;
  readonly prevLsn: bigint;
  readonly content: string;
}

/** Every record of a log, read as a server does. */
function read(bytes: Uint8Array): ReadRecord[] {
  const records: ReadRecord[] = [];
  const reader = createWalReader({
    ...{ segmentSize, startLsn, verifyCrc: true },
    onRecord: ({ lsn, rmgr, info, xid, prevLsn, bytes: from, start, length }) => {
      const content = Buffer.from(from.subarray(start + 24, start + length)).toString('hex');
      records.push({ lsn, rmgr, info, xid, prevLsn, content });
    },
  });
  reader.push(bytes);
  // The zeros behind the last record.
  expect(reader.end?.reason ?? 'unwritten').toBe('unwritten');
  return records;
}

/** Pages 0 to 99 of {@link relation} are settled, but for those named. */
function settledPages(except: readonly number[] = []): SettledPages {
  const settled = new SettledPages();
  const blocks = Uint32Array.from(except);
  settled.add(relation, 0, 100, {
    relation,
    fork: 0,
    blocks,
    overwrittenFirst: new Uint8Array(blocks.length),
  });
  return settled;
}

interface Thinned {
  readonly before: ReadRecord[];
  readonly after: ReadRecord[];
  readonly counts: WalThinner['counts'];
}

/** Thins a log segment by segment, as it is fed. */
function thin(records: readonly RecordToBuild[], settled: SettledPages, magic: number = MAGIC[18]): Thinned {
  const built = buildWal({ segmentSize, startLsn, records, magic });
  const bytes = new Uint8Array(Math.ceil(built.bytes.length / segmentSize) * segmentSize);
  bytes.set(built.bytes);
  const before = read(bytes);
  expect(before.length).toBe(records.length);
  const thinner = createWalThinner({ segmentSize, startLsn, settled });
  for (let at = 0; at < bytes.length; at += segmentSize) {
    const segment = bytes.slice(at, at + segmentSize);
    thinner.thin(segment);
    bytes.set(segment, at);
  }
  return { before, after: read(bytes), counts: thinner.counts };
}

const record = (
  blocks: readonly BlockToBuild[],
  how: { readonly rmgr?: number; readonly info?: number; readonly bytes?: number } = {},
): RecordToBuild => ({
  ...{ rmgr: how.rmgr ?? HEAP, info: how.info ?? 0, xid: 777 },
  content: withBlocks(blocks, new Uint8Array(how.bytes ?? 8).fill(9)),
});

/** Which of the records do nothing any more; those that do are as they were. */
function dropped({ before, after }: Thinned): boolean[] {
  expect(after.length).toBe(before.length);
  return after.map((record, index) => {
    const then = before[index]!;
    if (record.rmgr === NOOP.rmgr && record.info === NOOP.info) {
      expect(record).toEqual({ ...then, ...NOOP });
      return true;
    }
    expect(record).toEqual(then);
    return false;
  });
}

const page = (block: number, more: Partial<BlockToBuild> = {}): BlockToBuild => ({
  relation,
  block,
  ...more,
});

test('records of settled pages alone - do nothing; of others, or of no page, or of both - are as they were', () => {
  const thinned = thin(
    [
      record([page(1)]),
      record([page(1), page(2, { sameRelation: true })], { rmgr: BTREE }),
      record([page(50)]),
      record([page(1), page(50)]),
      record([{ relation: other, block: 1 }]),
      record([page(100)]),
      record([]),
      { rmgr: 1, info: 0, xid: 9, main: new Uint8Array(20) },
    ],
    settledPages([50]),
  );
  expect(dropped(thinned)).toEqual([true, true, false, false, false, false, false, false]);
  expect(thinned.counts).toEqual({ thinned: 2, records: 6 });
});

test('what redo of a record does beside its pages - is done: no resource manager that does more, no such operation', () => {
  const operations: [rmgr: number, info: number, isDropped: boolean][] = [
    [HEAP, 0x30, false],
    [HEAP, 0x70, false],
    [HEAP, 0x80, true],
    [HEAP2, 0x00, false],
    [HEAP2, 0x70, false],
    [HEAP2, 0xd0, true],
    [0, 0xa0, true],
    [0, 0xb0, true],
    [0, 0x30, false],
    [1, 0, false],
    [2, 0x20, false],
    [4, 0, false],
    [8, 0x10, false],
    [14, 0x30, true],
    [16, 0x10, false],
    [17, 0x90, true],
    [20, 0, false],
    [200, 0, false],
  ];
  const thinned = thin(
    operations.map(([rmgr, info]) => record([page(1)], { rmgr, info })),
    settledPages(),
  );
  expect(dropped(thinned)).toEqual(operations.map(([, , isDropped]) => isDropped));
});

test('a settled page that a record overwrites, which does more - is settled no longer', () => {
  const both = [page(3, { image: { bytes: 300, apply: true } }), page(50, { sameRelation: true })];
  const thinned = thin(
    [record([page(3)]), record(both), record([page(3)]), record([page(4)])],
    settledPages([50]),
  );
  expect(dropped(thinned)).toEqual([true, false, false, true]);
});

test('an image that is not applied - leaves a page settled', () => {
  const both = [page(3, { image: { bytes: 300, apply: false } }), page(50, { sameRelation: true })];
  const thinned = thin([record(both), record([page(3)])], settledPages([50]));
  expect(dropped(thinned)).toEqual([false, true]);
});

describe('visibility maps', () => {
  const map = (more: Partial<BlockToBuild> = {}): BlockToBuild => ({ relation, block: 0, fork: 2, ...more });
  const visible = (blocks: readonly BlockToBuild[]): RecordToBuild =>
    record(blocks, { rmgr: HEAP2, info: VISIBLE });

  test('bits of settled pages - are not set; of others they are', () => {
    const thinned = thin([visible([map(), page(1)]), visible([map(), page(50)])], settledPages([50]));
    expect(dropped(thinned)).toEqual([true, false]);
  });

  test.each([14, 18] as const)(
    'PostgreSQL %i: with an image of the map, for a page that is not settled - the bit is set, the image is not restored',
    version => {
      const first = map({ image: { bytes: 100, apply: true } });
      const records = [visible([first, page(50, { relation })]), record([page(1)])];
      // The flags of the image, with the bit of that release.
      if (version === 14) for (const { content } of records.slice(0, 1)) content![8] = 0x01 | 0x04;
      const { before, after } = thin(records, settledPages([50]), MAGIC[version]);
      const flags = (8 + 0) * 2;
      const expected = `${before[0]!.content.slice(0, flags)}01${before[0]!.content.slice(flags + 2)}`;
      expect(after[0]).toEqual({ ...before[0], content: expected });
      expect(after[1]).toMatchObject(NOOP);
    },
  );

  test('a map that is overwritten otherwise - all that follows is as it was', () => {
    const image = { bytes: 100, apply: true };
    const overwriting = record([map({ image }), { relation: other, block: 1 }], { rmgr: 0, info: 0xb0 });
    const thinned = thin([record([page(1)]), overwriting, record([page(1)])], settledPages());
    expect(dropped(thinned)).toEqual([true, false, false]);
  });
});

test('records of any length, over pages and segments - one that goes on in the next segment is kept, and all CRCs hold', () => {
  const anyRecord = fc.record({
    blocks: fc.array(
      fc.record({
        block: fc.integer({ min: 0, max: 12 }),
        isOther: fc.boolean(),
        image: fc.constantFrom(null, true, false),
      }),
      { minLength: 1, maxLength: 3 },
    ),
    bytes: fc.nat(255),
    fill: fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, { weight: 2, arbitrary: fc.nat(60_000) }),
  });
  fc.assert(
    fc.property(fc.array(anyRecord, { minLength: 20, maxLength: 80 }), drawn => {
      const except = [7, 8];
      const records = drawn.flatMap(({ blocks, bytes, fill }) => [
        record(
          blocks.map(({ block, isOther, image }) => ({
            ...{ relation: isOther ? other : relation, block },
            ...(image === null ? {} : { image: { bytes: 700, apply: image } }),
          })),
          { bytes },
        ),
        // Moves what follows to any place in a page and in a segment.
        ...(fill === 0 ? [] : [{ rmgr: 10, info: 0x70, main: new Uint8Array(fill) }]),
      ]);
      const thinned = thin(records, settledPages(except));
      const settled = new Set(
        Array.from({ length: 100 }, (_, block) => block).filter(block => !except.includes(block)),
      );
      const ends = [...thinned.before.slice(1).map(({ lsn }) => lsn), null];
      const segmentOf = (lsn: bigint): bigint => lsn / BigInt(segmentSize);
      let at = -1;
      const expected = drawn.flatMap(({ blocks, fill }) => {
        at += 1;
        const next = ends[at] ?? null;
        const { lsn } = thinned.before[at]!;
        const crosses = next !== null && segmentOf(next - 1n) !== segmentOf(lsn);
        const isDropped = !crosses && blocks.every(({ block, isOther }) => !isOther && settled.has(block));
        if (!isDropped)
          for (const { block, isOther, image } of blocks)
            if (!isOther && image === true) settled.delete(block);
        if (fill === 0) return [isDropped];
        at += 1;
        return [isDropped, false];
      });
      expect(dropped(thinned)).toEqual(expected);
    }),
    { numRuns: 60 },
  );
}, 60_000);

test('a log that is damaged - nothing behind the damage is changed', () => {
  const records = Array.from({ length: 3000 }, (_, n) => record([page(n % 100)], { bytes: 200 }));
  const { bytes } = buildWal({ segmentSize, startLsn, records });
  const log = bytes.slice(0, segmentSize);
  log.fill(0xee, 300_000, 300_100);
  const before = log.slice();
  const thinner = createWalThinner({ segmentSize, startLsn, settled: settledPages() });
  thinner.thin(log);
  expect(thinner.counts.thinned).toBeGreaterThan(500);
  expect(Buffer.compare(log.subarray(300_000), before.subarray(300_000))).toBe(0);
});
