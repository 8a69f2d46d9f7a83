import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AppError } from '../../../src/base/errors.ts';
import { MIB } from '../../../src/base/sizes.ts';
import { type SegmentScan, scanSegment, scanSegments } from '../../../src/engines/postgres/wal-scan.ts';
import { buildWal, MAGIC, type RecordToBuild } from './wal-builder.ts';

const segmentSize = MIB;
const UNIX_TO_POSTGRES_US = 946_684_800_000_000n;

/** Main data, field by field. */
function fields(
  ...parts: readonly (readonly ['u8' | 'u16' | 'u32' | 'u64', number | bigint] | string)[]
): Uint8Array {
  return Buffer.concat(
    parts.map(part => {
      if (typeof part === 'string') return Buffer.from(part);
      const [type, value] = part;
      const bytes = Buffer.alloc({ u8: 1, u16: 2, u32: 4, u64: 8 }[type]);
      if (type === 'u64') bytes.writeBigInt64LE(BigInt(value));
      else bytes.writeUIntLE(Number(value), 0, bytes.length);
      return bytes;
    }),
  );
}

const u16 = (value: number) => ['u16', value] as const;
const u32 = (value: number) => ['u32', value] as const;
const u64 = (value: number | bigint) => ['u64', value] as const;

function scanOne(record: RecordToBuild, magic: number = MAGIC[18]): SegmentScan {
  const { bytes } = buildWal({ segmentSize, startLsn: 0n, magic, records: [record] });
  return scanSegment(bytes, { lsn: 0n, segmentSize });
}

const commit = (xid: number): RecordToBuild => ({ rmgr: 1, info: 0, xid, main: fields(u64(xid * 1000)) });
const filler = (length: number): RecordToBuild => ({
  rmgr: 10,
  info: 0,
  main: new Uint8Array(length).fill(7),
});

async function collect(scans: AsyncIterable<SegmentScan>): Promise<SegmentScan[]> {
  const collected: SegmentScan[] = [];
  for await (const scan of scans) collected.push(scan);
  return collected;
}

describe('transactions', () => {
  test('a commit with nothing beside its time - read', () => {
    const scan = scanOne(commit(42));
    expect(scan.transactions).toEqual([
      {
        kind: 'commit',
        lsn: 40n,
        endLsn: 80n,
        xid: 42,
        timeUs: 42_000n + UNIX_TO_POSTGRES_US,
        subxids: [],
        droppedRelations: [],
        gid: null,
      },
    ]);
  });

  test.each([
    [14, 0, 0],
    [15, 1 << 8, 12],
    [16, 1 << 8, 12],
    [17, 1 << 8, 12],
    [18, 1 << 8, 16],
  ] as const)(
    'PostgreSQL %i, a commit of a prepared transaction with all it can carry - read',
    (version, statistics, itemBytes) => {
      const info = 1 | 2 | 4 | 8 | 16 | 32 | 128 | statistics;
      const main = Buffer.concat([
        fields(u64(-1n), u32(info), u32(5), u32(1663)),
        fields(u32(2), u32(101), u32(102)),
        fields(u32(2), u32(1663), u32(5), u32(16384), u32(1664), u32(0), u32(16385)),
        ...(itemBytes === 0 ? [] : [fields(u32(3)), Buffer.alloc(3 * itemBytes, 0xee)]),
        fields(u32(2)),
        Buffer.alloc(32, 0xdd),
        fields(u32(100), 'the gid\0', u64(1), u64(2)),
      ]);
      const scan = scanOne({ rmgr: 1, info: 0x80 | 0x30, xid: 0, main }, MAGIC[version]);
      expect(scan.majorVersion).toBe(version);
      expect(scan.transactions).toMatchObject([
        {
          kind: 'commit prepared',
          xid: 100,
          timeUs: UNIX_TO_POSTGRES_US - 1n,
          subxids: [101, 102],
          gid: 'the gid',
          droppedRelations: [
            { tablespace: 1663, database: 5, file: 16384 },
            { tablespace: 1664, database: 0, file: 16385 },
          ],
        },
      ]);
    },
  );

  test.each([
    [14, 0],
    [18, 8],
  ] as const)('PostgreSQL %i, a prepared transaction - read', (version, statisticsBytes) => {
    const main = Buffer.concat([
      fields(u32(0x57f94534), u32(0), u32(77), u32(5), u64(123), u32(10), u32(2), u32(0), u32(0)),
      Buffer.alloc(statisticsBytes),
      fields(u32(0), ['u8', 0], ['u8', 0], u16(4), u64(0), u64(0), 'gid\0', u32(0), u32(78), u32(79)),
    ]);
    expect(scanOne({ rmgr: 1, info: 0x10, xid: 77, main }, MAGIC[version]).transactions).toMatchObject([
      { kind: 'prepare', xid: 77, timeUs: 123n + UNIX_TO_POSTGRES_US, gid: 'gid', subxids: [78, 79] },
    ]);
  });

  test('records of transactions that neither end nor prepare one - passed over', () => {
    for (const info of [0x50, 0x60])
      expect(scanOne({ rmgr: 1, info, main: fields(u32(0)) }).transactions).toEqual([]);
  });

  test('origin and top-level xid in front of the main data - passed over', () => {
    const content = Buffer.concat([
      fields(['u8', 253], u16(3), ['u8', 252], u32(9), ['u8', 255], ['u8', 8]),
      fields(u64(5)),
    ]);
    expect(scanOne({ rmgr: 1, info: 0, xid: 4, content }).transactions).toMatchObject([
      { kind: 'commit', xid: 4, timeUs: UNIX_TO_POSTGRES_US + 5n },
    ]);
  });

  test.each([
    ['counts more subtransactions than it holds', fields(u64(0), u32(2), u32(0xffff_ffff))],
    ['ends within its time', fields(u32(0))],
    ['ends before its flags', fields(u64(0))],
  ])('a record that %s, under a right CRC - corrupt', (_, main) => {
    expect(() => scanOne({ rmgr: 1, info: 0x80, main })).toThrow(
      expect.objectContaining({ code: 'CORRUPT' }) as AppError,
    );
  });

  test('any content under a right CRC - read, or corrupt, and nothing else', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 400 }),
        fc.constantFrom(0, 1),
        fc.nat(15),
        fc.boolean(),
        (bytes, rmgr, info, raw) => {
          try {
            scanOne({ rmgr, info: info << 4, ...(raw ? { content: bytes } : { main: bytes }) });
          } catch (error) {
            if (!(error instanceof AppError && error.code === 'CORRUPT')) throw error;
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe('what the log says of itself', () => {
  test('a restore point - its name and time', () => {
    const main = Buffer.concat([fields(u64(99), 'before the migration, née\0'), Buffer.alloc(64)]).subarray(
      0,
      72,
    );
    const scan = scanOne({ rmgr: 0, info: 0x70, main });
    expect(scan.restorePoints).toEqual([
      {
        kind: 'restore point',
        lsn: 40n,
        endLsn: 144n,
        name: 'before the migration, née',
        timeUs: UNIX_TO_POSTGRES_US + 99n,
      },
    ]);
    expect(scan.events).toEqual(scan.restorePoints);
  });

  test.each<[number, Uint8Array, object]>([
    [0x50, fields(u64(0x2000028)), { kind: 'backup end', startLsn: 0x2000028n }],
    [0x80, fields(['u8', 1]), { kind: 'full page writes', on: true }],
    [0x90, fields(u64(1), u32(3), u32(2)), { kind: 'end of recovery', timeline: 3, previousTimeline: 2 }],
    [0xd0, fields(u64(0x1234), u64(5)), { kind: 'overwrite', overwrittenLsn: 0x1234n }],
    [
      0x60,
      fields(u32(1), u32(2), u32(3), u32(4), u32(5), u32(2), ['u8', 1], ['u8', 0]),
      {
        kind: 'parameter change',
        maxConnections: 1,
        maxWorkerProcesses: 2,
        maxWalSenders: 3,
        maxPreparedTransactions: 4,
        maxLocksPerTransaction: 5,
        walLevel: 'logical',
        walLogHints: true,
        trackCommitTimestamp: false,
      },
    ],
  ])('the record %i - read', (info, main, expected) => {
    expect(scanOne({ rmgr: 0, info, main }).events).toMatchObject([expected]);
  });

  test.each([
    [0x00, true],
    [0x10, false],
  ])('a checkpoint of kind %i - read', (info, shutdown) => {
    const main = Buffer.concat([
      fields(u64(0x1000028), u32(2), u32(1), u32(1), u32(1), u64(5n << 32n), u32(16400), u32(1), u32(0)),
      fields(u32(700), u32(1), u32(1), u32(1), u32(0), u64(1_795_390_057), u32(0), u32(0), u32(733), u32(0)),
    ]);
    expect(scanOne({ rmgr: 0, info, main }).events).toEqual([
      {
        kind: 'checkpoint',
        lsn: 40n,
        endLsn: expect.any(BigInt) as bigint,
        shutdown,
        checkpoint: {
          lsn: 40n,
          redoLsn: 0x1000028n,
          timeline: 2,
          previousTimeline: 1,
          fullPageWrites: true,
          nextXid: 5n << 32n,
          nextOid: 16400,
          oldestXid: 700,
          oldestActiveXid: 733,
          timeSeconds: 1_795_390_057,
        },
      },
    ]);
  });
});

describe('segments', () => {
  // The commit of xid 2 crosses from the first segment into the second, that of xid 4 from the third into the fourth.
  const crossing = (xid: number): RecordToBuild => ({
    rmgr: 1,
    info: 0x80,
    xid,
    main: Buffer.concat([fields(u64(xid), u32(2), u32(2000)), Buffer.alloc(8000)]),
  });
  const wal = buildWal({
    segmentSize,
    startLsn: BigInt(5 * segmentSize),
    prevLsn: 100n,
    records: [
      commit(1),
      filler(segmentSize - 8000),
      crossing(2),
      commit(3),
      filler(2 * segmentSize - 12_000),
      crossing(4),
      commit(5),
    ],
  });
  const bytesOf = (index: number): Uint8Array =>
    wal.bytes.subarray(index * segmentSize, (index + 1) * segmentSize);
  const lsnOf = (index: number): bigint => BigInt((5 + index) * segmentSize);
  async function* pieces(...indexes: number[]) {
    for (const index of indexes) yield { lsn: lsnOf(index), bytes: bytesOf(index) };
  }
  const xids = (scan: SegmentScan): number[] => scan.transactions.map(transaction => transaction.xid);

  test('the log built for this - has the records that cross where they are meant to', () => {
    const segmentsOf = wal.records.map(({ lsn, endLsn }) =>
      [lsn, endLsn].map(at => Number(at / BigInt(segmentSize)) - 5),
    );
    expect(segmentsOf).toEqual([
      [0, 0],
      [0, 0],
      [0, 1],
      [1, 1],
      [1, 2],
      [2, 3],
      [3, 3],
    ]);
  });

  test('each on its own - what is whole within it, and what goes on behind it', () => {
    const scans = [0, 1, 2, 3].map(index => scanSegment(bytesOf(index), { lsn: lsnOf(index), segmentSize }));
    expect(scans.map(xids)).toEqual([[1], [3], [], [5]]);
    expect(scans.map(scan => scan.firstRecordLsn)).toEqual(
      [0, 3, 5, 6].map(index => wal.records[index]!.lsn),
    );
    expect(scans.map(scan => scan.incompleteRecordLsn)).toEqual(
      [2, 4, 5].map(index => wal.records[index]!.lsn).concat(null as never),
    );
    expect(scans.map(scan => scan.lastRecordEndLsn)).toEqual([
      wal.records[1]!.endLsn,
      wal.records[3]!.endLsn,
      null,
      wal.records[6]!.endLsn,
    ]);
    expect(scans.map(scan => scan.ended)).toEqual([
      'segment end',
      'segment end',
      'segment end',
      'segment end',
    ]);
    expect(scans.map(scan => scan.recordCount)).toEqual([2, 1, 0, 1]);
  });

  test('joined - every record once, with the segment in which it ends', async () => {
    const scans = await collect(scanSegments(pieces(0, 1, 2, 3), { segmentSize }));
    expect(scans.map(xids)).toEqual([[1], [2, 3], [], [4, 5]]);
    expect(scans.map(scan => scan.recordCount)).toEqual([2, 2, 1, 2]);
    expect(scans.map(scan => scan.firstRecordLsn)).toEqual(
      [0, 3, 5, 6].map(index => wal.records[index]!.lsn),
    );
    expect(scans[1]!.transactions[0]).toMatchObject({
      lsn: wal.records[2]!.lsn,
      endLsn: wal.records[2]!.endLsn,
      subxids: { length: 2000 },
    });
    expect(scans[1]!.lsn).toBe(lsnOf(1));
    expect(scans[3]).toMatchObject({
      timeline: 1,
      majorVersion: 18,
      systemIdentifier: '7711141577650727535',
    });
  });

  test('one missing between - said, with what was expected', async () => {
    await expect(collect(scanSegments(pieces(0, 2), { segmentSize }))).rejects.toThrow(
      'unable to read the log at 0/600000: it goes on at 0/700000',
    );
  });

  test('one that ends early - the last that is read', async () => {
    const short = bytesOf(1).slice();
    short.fill(0, Number(wal.records[3]!.endLsn - lsnOf(1)));
    async function* withShort() {
      yield* pieces(0);
      yield { lsn: lsnOf(1), bytes: short };
      yield* pieces(2);
    }
    const scans = await collect(scanSegments(withShort(), { segmentSize }));
    expect(scans.length).toBe(2);
    expect(scans[1]).toMatchObject({
      ended: 'unwritten',
      end: { reason: 'unwritten', lsn: wal.records[3]!.endLsn },
    });
    expect(xids(scans[1]!)).toEqual([2, 3]);
  });

  test('of another system - refused', () => {
    expect(() => scanSegment(bytesOf(0), { lsn: lsnOf(0), segmentSize, systemIdentifier: '1' })).toThrow(
      expect.objectContaining({ code: 'SYSTEM_MISMATCH' }) as AppError,
    );
  });
});
