import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { AppError } from '../../../src/base/errors.ts';
import { MIB } from '../../../src/base/sizes.ts';
import { parseLsn } from '../../../src/engines/postgres/lsn.ts';
import {
  createWalReader,
  type WalReader,
  type WalReaderOptions,
} from '../../../src/engines/postgres/wal-reader.ts';
import type { WalRecord } from '../../../src/engines/postgres/wal-record.ts';
import { type BuiltRecord, buildWal, MAGIC, type RecordToBuild } from './wal-builder.ts';

// Hundreds of logs are built and read in one test: under a second, but for a machine that is busy with other tests.
vi.setConfig({ testTimeout: 30_000 });

const segmentSize = MIB;
/** Beyond the positions that a JavaScript number holds exactly, with its lower half about to overflow. */
const farLsn = parseLsn('ABCDEF01/FFF00000');

interface ReadRecord extends BuiltRecord {
  readonly content: Uint8Array;
}

function read(
  pieces: Iterable<Uint8Array>,
  options: Partial<WalReaderOptions> = {},
): { reader: WalReader; records: ReadRecord[] } {
  const records: ReadRecord[] = [];
  const onRecord = (record: WalRecord): void => {
    const { lsn, endLsn, prevLsn, length, rmgr, info, xid } = record;
    const content = record.bytes.slice(record.start + 24, record.start + length);
    records.push({ lsn, endLsn, prevLsn, length, rmgr, info, xid, content });
  };
  const reader = createWalReader({ segmentSize, startLsn: 0n, onRecord, ...options });
  for (const piece of pieces) reader.push(piece);
  return { reader, records };
}

/** Content that differs from place to place, so that a byte too many, too few or in the wrong place shows. */
function content(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8) * 13 + seed) & 0xff);
}

const anyRecord = fc
  .record({
    rmgr: fc.oneof(fc.integer({ min: 2, max: 21 }), fc.integer({ min: 128, max: 255 })),
    info: fc.nat(255),
    xid: fc.nat(0xffff_ffff),
    length: fc.oneof({ weight: 10, arbitrary: fc.nat(300) }, { weight: 2, arbitrary: fc.nat(30_000) }),
    seed: fc.nat(255),
  })
  .map(({ length, seed, ...record }): RecordToBuild => ({ ...record, content: content(length, seed) }));

const anyRecords = fc.array(anyRecord, { minLength: 1, maxLength: 200 });

/** Cuts bytes at the places given, in thousandths. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const ends = [...places.map(place => Math.floor((bytes.length * place) / 1000)), bytes.length].sort(
    (a, b) => a - b,
  );
  return ends.map((end, index) => bytes.subarray(index === 0 ? 0 : ends[index - 1], end));
}

/** The first record that is not the one written in its place; -1 when none. One `expect` for each would take seconds. */
function firstDifferent(
  records: readonly ReadRecord[],
  built: readonly BuiltRecord[],
  source: readonly RecordToBuild[],
): number {
  const facts = ['lsn', 'endLsn', 'prevLsn', 'length', 'rmgr', 'info', 'xid'] as const;
  return records.findIndex(
    (record, index) =>
      facts.some(fact => record[fact] !== built[index]?.[fact]) ||
      Buffer.compare(record.content, source[index]?.content ?? new Uint8Array(0)) !== 0,
  );
}

function expectSame(
  records: readonly ReadRecord[],
  built: readonly BuiltRecord[],
  source: readonly RecordToBuild[],
): void {
  expect(records.length).toBe(built.length);
  expect(firstDifferent(records, built, source)).toBe(-1);
}

describe('whole logs', () => {
  test('any records, pushed in any pieces, near any position - every one read, as written', () => {
    fc.assert(
      fc.property(
        anyRecords,
        fc.array(fc.nat(1000), { maxLength: 20 }),
        fc.constantFrom(0n, BigInt(segmentSize), farLsn),
        (source, places, startLsn) => {
          const prevLsn = startLsn === 0n ? 0n : startLsn - 8n;
          const wal = buildWal({ segmentSize, startLsn, records: source, prevLsn });
          const { reader, records } = read(cut(wal.bytes, places), { startLsn });
          expectSame(records, wal.records, source);
          expect(reader.end).toBeNull();
          expect(reader.firstRecordLsn).toBe(wal.records[0]!.lsn);
          expect(reader.lastRecordLsn).toBe(wal.records.at(-1)!.lsn);
          expect(reader.lastRecordEndLsn).toBe(wal.records.at(-1)!.endLsn);
          expect(reader.positionLsn).toBe(startLsn + BigInt(wal.bytes.length));
          expect(reader.incompleteRecordLsn).toBeNull();
        },
      ),
    );
  });

  test('a log that passes from one upper half of its positions to the next - every record read', () => {
    const source = [700_000, 10, 700_000, 20, 30].map((length, seed) => ({
      rmgr: 10,
      info: 0,
      content: content(length, seed),
    }));
    const wal = buildWal({ segmentSize, startLsn: farLsn, records: source, prevLsn: farLsn - 8n });
    expect(wal.records.at(-1)!.lsn >> 32n).toBe((farLsn >> 32n) + 1n);
    expectSame(read([wal.bytes], { startLsn: farLsn }).records, wal.records, source);
  });

  test('pushed byte by byte - every record read', () => {
    const source = [10, 0, 8100, 40, 20_000, 1, 2, 3].map((length, seed) => ({
      rmgr: 10,
      info: 0,
      content: content(length, seed),
    }));
    const wal = buildWal({ segmentSize, startLsn: 0n, records: source });
    const { records } = read(Array.from(wal.bytes, byte => Uint8Array.of(byte)));
    expectSame(records, wal.records, source);
  });

  test('a record larger than several segments - read, and its memory given back', () => {
    const source = [50, 6 * MIB, 50].map((length, seed) => ({
      rmgr: 21,
      info: 0,
      content: content(length, seed),
    }));
    const wal = buildWal({ segmentSize, startLsn: 0n, records: source });
    const { records } = read(cut(wal.bytes, [100, 333, 500]));
    expectSame(records, wal.records, source);
  });

  test('switches of segments - the rest of the segment passed over, whatever is in it', () => {
    const change = { rmgr: 10, info: 0, content: content(100, 1) };
    const source = [
      change,
      { rmgr: 0, info: 0x40 },
      change,
      change,
      { rmgr: 0, info: 0x40 },
      { rmgr: 0, info: 0x40 },
      change,
    ];
    const wal = buildWal({ segmentSize, startLsn: 0n, records: source });
    wal.bytes.fill(0xff, 100_000, segmentSize);
    const { reader, records } = read(cut(wal.bytes, [10, 400, 999]));
    expectSame(records, wal.records, source);
    expect(records[1]!.endLsn).toBe(BigInt(segmentSize));
    expect(reader.end).toBeNull();
  });

  test.each(Object.entries(MAGIC))('pages of PostgreSQL %s - told', (version, magic) => {
    const wal = buildWal({ segmentSize, startLsn: 0n, magic, records: [{ rmgr: 10, info: 0 }], timeline: 7 });
    const { reader } = read([wal.bytes]);
    expect(reader).toMatchObject({
      majorVersion: Number(version),
      timeline: 7,
      systemIdentifier: '7711141577650727535',
    });
  });
});

describe('starting in the middle', () => {
  test('at any page - the first record that begins there, and all after it', () => {
    fc.assert(
      fc.property(anyRecords, fc.nat(1000), (source, place) => {
        const wal = buildWal({ segmentSize, startLsn: 0n, records: source });
        const start = Math.floor(((wal.bytes.length - 1) * place) / 1000 / 8192) * 8192;
        const { reader, records } = read([wal.bytes.subarray(start)], { startLsn: BigInt(start) });
        const following = wal.records.filter(record => record.lsn >= BigInt(start));
        expect(records.map(record => record.lsn)).toEqual(following.map(record => record.lsn));
        expect(reader.end).toBeNull();
      }),
    );
  });
});

describe('ends', () => {
  const source = Array.from({ length: 400 }, (_, seed) => ({
    rmgr: 10,
    info: 0,
    content: content(20 + seed * 3, seed),
  }));
  const wal = buildWal({ segmentSize, startLsn: 0n, records: source });

  test('zeros after the last record - unwritten, where that record ends', () => {
    const { reader, records } = read([wal.bytes, new Uint8Array(20_000)]);
    expect(records.length).toBe(source.length);
    expect(reader.end).toMatchObject({ reason: 'unwritten', lsn: wal.records.at(-1)!.endLsn });
    reader.push(wal.bytes);
    expect(reader.recordCount).toBe(source.length);
  });

  test('nothing but zeros - unwritten, from the start', () => {
    const { reader } = read([new Uint8Array(segmentSize)]);
    expect(reader.end).toMatchObject({ reason: 'unwritten', lsn: 0n });
    expect(reader.firstRecordLsn).toBeNull();
  });

  test('records of an earlier use of the file after the last one - stale', () => {
    const earlier = buildWal({ segmentSize, startLsn: BigInt(segmentSize), records: source, prevLsn: 100n });
    const later = buildWal({
      segmentSize,
      startLsn: BigInt(9 * segmentSize),
      records: source.slice(0, 200),
      prevLsn: BigInt(9 * segmentSize - 8),
    });
    // The pages that the later log did not reach keep what they had, and so does the rest of its last page.
    const recycled = earlier.bytes.slice();
    recycled.set(later.bytes);
    const { reader, records } = read([recycled], { startLsn: BigInt(9 * segmentSize) });
    expect(records.length).toBe(200);
    expect(reader.end).toMatchObject({ reason: 'stale', lsn: later.records.at(-1)!.endLsn });
  });

  test('the next page of an earlier use of the file - stale, at the record that goes on there', () => {
    const crossing = wal.records.find(
      record => record.lsn / 8192n !== (record.endLsn - 1n) / 8192n && record.lsn > 20_000n,
    )!;
    const pageStart = Number(crossing.endLsn - (crossing.endLsn % 8192n));
    const bytes = wal.bytes.slice();
    new DataView(bytes.buffer).setBigUint64(pageStart + 8, 0n, true);
    const { reader } = read([bytes]);
    expect(reader.end).toMatchObject({ reason: 'stale', lsn: BigInt(pageStart) });
    expect(reader.lastRecordEndLsn).toBe(crossing.lsn);
  });

  test('a page that holds another length of the record that goes on there - damaged, at that record', () => {
    const crossing = wal.records.find(record => record.lsn / 8192n !== (record.endLsn - 1n) / 8192n)!;
    const bytes = wal.bytes.slice();
    bytes[Number(crossing.endLsn - (crossing.endLsn % 8192n)) + 16]! ^= 8;
    expect(read([bytes]).reader.end).toMatchObject({ reason: 'damaged', lsn: crossing.lsn });
  });

  test('a page of an older timeline - stale', () => {
    const bytes = buildWal({ segmentSize, startLsn: 0n, records: source, timeline: 3 }).bytes;
    new DataView(bytes.buffer).setUint32(8192 + 4, 2, true);
    expect(read([bytes]).reader.end).toMatchObject({ reason: 'stale', lsn: 8192n });
    new DataView(bytes.buffer).setUint32(8192 + 4, 4, true);
    expect(read([bytes]).reader.end).toMatchObject({ reason: 'stale', lsn: 16384n });
  });

  test.each([
    ['its length', 0, 'cannot have'],
    ['its link back', 8, 'the one before it'],
    ['its resource manager', 17, 'resource manager'],
    ['its xid', 4, 'CRC'],
    ['its content', 30, 'CRC'],
    ['its CRC', 20, 'CRC'],
  ])('a record damaged in %s - ends there', (_, offset, message) => {
    const target = wal.records[7]!;
    const bytes = wal.bytes.slice();
    const at = Number(target.lsn) + offset;
    bytes[at] = offset === 0 ? 3 : bytes[at]! ^ 0x40;
    if (offset === 0) bytes.fill(0, at + 1, at + 4);
    const { reader, records } = read([bytes]);
    expect(records.length).toBe(7);
    expect(reader.end?.lsn).toBe(target.lsn);
    expect(reader.end?.message).toContain(message);
    expect(reader.lastRecordEndLsn).toBe(target.lsn);
  });

  test('CRCs left out on request - damaged content goes unnoticed', () => {
    const bytes = wal.bytes.slice();
    bytes[Number(wal.records[7]!.lsn) + 30]! ^= 1;
    expect(read([bytes], { verifyCrc: false }).records.length).toBe(source.length);
  });

  test('cut anywhere - what is whole is read, what is cut is named', () => {
    fc.assert(
      fc.property(fc.nat(wal.bytes.length), length => {
        const { reader, records } = read([wal.bytes.subarray(0, length)]);
        // A record is read with its last byte; the padding behind it is not waited for.
        const whole = wal.records.filter(record => record.endLsn <= BigInt(length)).length;
        expect(records.length - whole === 0 || records.length - whole === 1).toBe(true);
        expect(records.length).toBeLessThanOrEqual(wal.records.length);
        expect(reader.end).toBeNull();
        const next = wal.records[records.length];
        if (reader.incompleteRecordLsn !== null) expect(reader.incompleteRecordLsn).toBe(next?.lsn);
        else if (next) expect(next.lsn).toBeGreaterThanOrEqual(BigInt(length));
      }),
    );
  });

  test('any bytes changed anywhere - all records before are read, none after, and nothing is invented', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(wal.bytes.length - 1), fc.integer({ min: 1, max: 255 })), {
          minLength: 1,
          maxLength: 5,
        }),
        fc.array(fc.nat(1000), { maxLength: 5 }),
        (changes, places) => {
          const bytes = wal.bytes.slice();
          for (const [at, value] of changes) bytes[at]! ^= value;
          try {
            const { reader, records } = read(cut(bytes, places));
            expect(firstDifferent(records, wal.records, source)).toBe(-1);
            if (reader.end !== null) expect(reader.end.lsn).toBeLessThanOrEqual(BigInt(bytes.length));
            const first = Math.min(...changes.map(([at]) => at));
            // A page header's change may also end the reading at the page, before the record that goes on there.
            expect(records.length).toBeGreaterThanOrEqual(
              wal.records.filter(record => record.endLsn <= BigInt(first - (first % 8192))).length,
            );
          } catch (error) {
            if (!(error instanceof AppError)) throw error;
            expect(['SYSTEM_MISMATCH', 'ENGINE_VERSION']).toContain(error.code);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  test('any garbage - a stated end or an error that says what is wrong', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 3000 }), { maxLength: 10 }),
        fc.boolean(),
        (pieces, afterHeader) => {
          try {
            read(afterHeader ? [wal.bytes.subarray(0, 40), ...pieces] : pieces);
          } catch (error) {
            if (!(error instanceof AppError)) throw error;
          }
        },
      ),
    );
  });
});

describe('records lost in a crash', () => {
  test('a page that begins anew where a record should go on - read on from there', () => {
    const source = [
      { rmgr: 10, info: 0, content: content(50, 1) },
      { rmgr: 10, info: 0, content: content(9000, 2) },
    ];
    const first = buildWal({ segmentSize, startLsn: 0n, records: source });
    const lost = first.records[1]!;
    const bytes = new Uint8Array(3 * 8192);
    bytes.set(first.bytes.subarray(0, 8192));
    const second = buildWal({
      segmentSize,
      startLsn: 8192n,
      prevLsn: first.records[0]!.lsn,
      records: [
        { rmgr: 0, info: 0xd0, main: new Uint8Array(16) },
        { rmgr: 10, info: 0, content: content(77, 3) },
      ],
    });
    bytes.set(second.bytes, 8192);
    bytes[8192 + 2]! |= 8;
    const { reader, records } = read([bytes]);
    expect(records.map(record => record.lsn)).toEqual([
      first.records[0]!.lsn,
      ...second.records.map(record => record.lsn),
    ]);
    expect(records.map(record => record.lsn)).not.toContain(lost.lsn);
    expect(reader.end).toMatchObject({ reason: 'unwritten', lsn: second.records[1]!.endLsn });
  });

  test('the same without the page saying so - ends at the record that was lost', () => {
    const first = buildWal({
      segmentSize,
      startLsn: 0n,
      records: [{ rmgr: 10, info: 0, content: content(9000, 2) }],
    });
    const second = buildWal({
      segmentSize,
      startLsn: 8192n,
      records: [{ rmgr: 10, info: 0, content: content(77, 3) }],
    });
    const { reader } = read([first.bytes.subarray(0, 8192), second.bytes]);
    expect(reader.end).toMatchObject({ reason: 'damaged', lsn: first.records[0]!.lsn });
  });
});

describe('foreign logs', () => {
  const records = [{ rmgr: 10, info: 0 }];

  test.each<[string, Partial<Parameters<typeof buildWal>[0]>, Partial<WalReaderOptions>, string]>([
    ['another system', {}, { systemIdentifier: '42' }, 'SYSTEM_MISMATCH'],
    ['segments of another size', { segmentSize: 16 * MIB }, {}, 'SYSTEM_MISMATCH'],
    ['a release that is not supported', { magic: 0xd106 }, {}, 'ENGINE_VERSION'],
  ])('%s - refused', (_, change, options, code) => {
    const { bytes } = buildWal({ segmentSize, startLsn: 0n, records, ...change });
    expect(() => read([bytes], options)).toThrow(expect.objectContaining({ code }) as AppError);
  });

  test('a later segment of another system - refused', () => {
    const { bytes } = buildWal({ segmentSize, startLsn: 0n, records: [{ rmgr: 0, info: 0x40 }, ...records] });
    new DataView(bytes.buffer).setBigUint64(segmentSize + 24, 42n, true);
    expect(() => read([bytes])).toThrow('it is of system 42, expected was 7711141577650727535');
  });
});
