import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AppError } from '../../../src/base/errors.ts';
import { parseControlFile, readControlFile } from '../../../src/engines/postgres/control-file.ts';
import { crc32c } from '../../../src/engines/postgres/crc32c.ts';
import { formatLsn } from '../../../src/engines/postgres/lsn.ts';
import { controlFileSamples } from './control-file-samples.ts';

const FILE_BYTES = 8192;
const CRC_AT = { 1300: 288, 1700: 288, 1800: 292 };

function bytesOf(sample: (typeof controlFileSamples)[number]): Uint8Array {
  const bytes = new Uint8Array(FILE_BYTES);
  bytes.set(Buffer.from(sample.base64, 'base64'));
  return bytes;
}

/** A control file with one 32-bit field changed and its CRC made right again. */
function patched(sample: (typeof controlFileSamples)[number], at: number, value: number): Uint8Array {
  const bytes = bytesOf(sample);
  const view = new DataView(bytes.buffer);
  view.setUint32(at, value, true);
  const crcAt = CRC_AT[sample.pgControlVersion];
  view.setUint32(crcAt, crc32c(bytes, 0, crcAt), true);
  return bytes;
}

function failing(code: string, text: string): AppError {
  return expect.objectContaining({ code, message: expect.stringContaining(text) }) as AppError;
}

describe('control files', () => {
  test.each(controlFileSamples)('PostgreSQL $majorVersion - what its own SQL says', sample => {
    const control = parseControlFile(bytesOf(sample));
    expect(control).toMatchObject({
      majorVersion: sample.majorVersion,
      systemIdentifier: sample.systemIdentifier,
      pgControlVersion: sample.pgControlVersion,
      catalogVersion: sample.catalogVersionNo,
      state: 'in production',
      walLevel: 'replica',
      blockSize: sample.databaseBlockSize,
      relationSegmentBlocks: sample.blocksPerSegment,
      walBlockSize: sample.walBlockSize,
      walSegmentSize: sample.bytesPerWalSegment,
      dataChecksums: sample.dataPageChecksumVersion === 1,
      // What these clusters were set to, beside or against the defaults.
      trackCommitTimestamp: true,
      walLogHints: false,
      maxConnections: 90,
      maxWorkerProcesses: 8,
      maxWalSenders: 10,
      maxPreparedTransactions: 20,
      maxLocksPerTransaction: 64,
      minRecoveryLsn: 0n,
      minRecoveryTimeline: 0,
      backupStartLsn: 0n,
      backupEndLsn: 0n,
      backupEndRequired: false,
    });
    const { checkpoint } = control;
    expect(formatLsn(checkpoint.lsn)).toBe(sample.checkpointLsn);
    expect(formatLsn(checkpoint.redoLsn)).toBe(sample.redoLsn);
    expect(`${checkpoint.nextXid >> 32n}:${checkpoint.nextXid & 0xffffffffn}`).toBe(sample.nextXid);
    expect(checkpoint).toMatchObject({
      timeline: sample.timelineId,
      previousTimeline: sample.prevTimelineId,
      fullPageWrites: sample.fullPageWrites,
      nextOid: Number(sample.nextOid),
      oldestXid: Number(sample.oldestXid),
      oldestActiveXid: Number(sample.oldestActiveXid),
      timeSeconds: Date.parse(sample.checkpointTime) / 1000,
    });
  });

  test.each(controlFileSamples)(
    'PostgreSQL $majorVersion, any bit flipped - refused, never misread',
    sample => {
      const bytes = bytesOf(sample);
      const whole = parseControlFile(bytes);
      fc.assert(
        fc.property(fc.nat((CRC_AT[sample.pgControlVersion] + 4) * 8 - 1), bit => {
          bytes[bit >> 3]! ^= 1 << (bit & 7);
          try {
            expect(() => parseControlFile(bytes)).toThrow(AppError);
          } finally {
            bytes[bit >> 3]! ^= 1 << (bit & 7);
          }
        }),
      );
      expect(parseControlFile(bytes)).toEqual(whole);
    },
  );

  test('a view into a larger buffer - read from where it starts', () => {
    const sample = controlFileSamples[0];
    const larger = new Uint8Array(FILE_BYTES + 3);
    larger.set(bytesOf(sample), 3);
    expect(parseControlFile(larger.subarray(3)).systemIdentifier).toBe(sample.systemIdentifier);
  });

  test('too short - corrupt', () => {
    for (const length of [0, 1, 288, 511]) {
      expect(() => parseControlFile(bytesOf(controlFileSamples[0]).subarray(0, length))).toThrow(
        failing('CORRUPT', `it has ${length} bytes`),
      );
    }
  });

  test('a CRC that is wrong - corrupt, with the name it was given', () => {
    const bytes = bytesOf(controlFileSamples[4]);
    bytes[100]! ^= 1;
    expect(() => parseControlFile(bytes, 'the file')).toThrow(
      failing('CORRUPT', "'the file': its CRC is wrong"),
    );
  });

  test('other formats and catalogs - of a version that is not supported', () => {
    const [sample] = controlFileSamples;
    expect(() => parseControlFile(patched(sample, 8, 1201))).toThrow(
      failing('ENGINE_VERSION', 'format 1201'),
    );
    expect(() => parseControlFile(patched(sample, 8, 1300 * 0x10000))).toThrow(
      failing('ENGINE_VERSION', 'byte order'),
    );
    expect(() => parseControlFile(patched(sample, 12, 202007201))).toThrow(
      failing('ENGINE_VERSION', '202007201'),
    );
    expect(() => parseControlFile(new Uint8Array(FILE_BYTES))).toThrow(failing('ENGINE_VERSION', 'format 0'));
  });

  test.each([
    ['state', 16, 7],
    ['wal_level', 172, 3],
    ['block size', 216, 8191],
    ['segment size', 228, 3 << 20],
  ])('a %s that cannot be, under a right CRC - corrupt', (field, at, value) => {
    expect(() => parseControlFile(patched(controlFileSamples[0], at, value))).toThrow(
      failing('CORRUPT', `its ${field} cannot be ${value}`),
    );
  });

  test('each state of a cluster - in the words of pg_controldata', () => {
    const states = [0, 1, 2, 3, 4, 5, 6].map(
      state => parseControlFile(patched(controlFileSamples[0], 16, state)).state,
    );
    expect(states).toEqual([
      'starting up',
      'shut down',
      'shut down in recovery',
      'shutting down',
      'in crash recovery',
      'in archive recovery',
      'in production',
    ]);
  });

  test('no data directory - said with its path', async () => {
    await expect(readControlFile('/nowhere/at/all')).rejects.toThrow(
      failing('FILE_FAILED', '/nowhere/at/all/global/pg_control'),
    );
  });
});

describe('CRC-32C', () => {
  // The check value of the catalogue of CRCs, and RFC 3720, appendix B.4.
  test('known answers', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
    expect(crc32c(new Uint8Array(0))).toBe(0);
  });

  test('any range - as bit by bit', () => {
    const bitwise = (bytes: Uint8Array): number => {
      let crc = -1;
      for (const byte of bytes) {
        crc ^= byte;
        for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
      }
      return ~crc >>> 0;
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(200), fc.nat(200), (bytes, from, to) => {
        const [start, end] = [Math.min(from, to, bytes.length), Math.min(Math.max(from, to), bytes.length)];
        expect(crc32c(bytes, start, end)).toBe(bitwise(bytes.subarray(start, end)));
      }),
    );
  });
});
