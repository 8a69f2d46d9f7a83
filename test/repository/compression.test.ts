import { randomBytes } from 'node:crypto';
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  CODEC_NONE,
  CODEC_ZSTD,
  compress,
  compressInBackground,
  decompress,
  decompressStart,
  decompressUpTo,
  FRAME_BODY_BYTES,
  formatCompression,
  parseCompression,
} from '../../src/repository/compression.ts';

const corrupt = expect.objectContaining({ code: 'CORRUPT', details: { object: 'p' } });

test('any body at any level - opens as it was, and never grows', async () => {
  const body = fc.oneof(
    fc.uint8Array({ maxLength: 2000 }),
    fc.integer({ min: 0, max: 200_000 }).map(size => new Uint8Array(size)),
    fc.integer({ min: 0, max: 50_000 }).map(size => Buffer.alloc(size, 'pages and rows ')),
  );
  await fc.assert(
    fc.asyncProperty(body, fc.constantFrom(null, 1, 3, 9), async (bytes, level) => {
      for (const packed of [
        compress(bytes, level),
        compress(bytes, level, 'log'),
        await compressInBackground(bytes, level, 'log'),
      ]) {
        expect(packed.body.length).toBeLessThanOrEqual(bytes.length);
        expect(Buffer.from(decompress(packed, bytes.length, 'p')).equals(Buffer.from(bytes))).toBe(true);
      }
    }),
    { numRuns: 60 },
  );
});

test('log - the same up to level 4, as configured above it, and without a checksum of its own', () => {
  const records = Buffer.concat(
    Array.from({ length: 4000 }, (_, at) => Buffer.from(`record ${at % 97} of ${at} `)),
  );
  const [one, four, nine] = [1, 4, 9].map(level => compress(records, level, 'log').body);
  expect(four).toEqual(one);
  expect(nine!.length).toBeLessThan(one!.length);
  // Bit 2 of the byte behind the magic number. RFC 8878, 3.1.1.1.1
  for (const body of [one!, nine!]) expect(body[4]! & 4).toBe(0);
  expect(compress(records, 1).body[4]! & 4).toBe(4);
});

test('what does not compress, and level none - stays as it is', () => {
  const noise = randomBytes(10_000);
  expect(compress(noise, 3)).toEqual({ codec: CODEC_NONE, body: noise });
  expect(compress(new Uint8Array(10_000), null).codec).toBe(CODEC_NONE);
  expect(compress(new Uint8Array(10_000), 3).codec).toBe(CODEC_ZSTD);
});

test('a bomb, whatever length it claims - refused without being opened beyond it', () => {
  const bomb = zstdCompressSync(new Uint8Array(64 * 1024 * 1024));
  expect(bomb.length).toBeLessThan(10_000);
  const before = process.memoryUsage().arrayBuffers;
  for (const rawBytes of [0, 1, 1000, FRAME_BODY_BYTES])
    expect(() => decompress({ codec: CODEC_ZSTD, body: bomb }, rawBytes, 'p')).toThrow(corrupt);
  expect(() => decompress({ codec: CODEC_ZSTD, body: bomb }, 64 * 1024 * 1024, 'p')).toThrow(corrupt);
  expect(() => decompressUpTo({ codec: CODEC_ZSTD, body: bomb }, 5 * FRAME_BODY_BYTES, 'p')).toThrow(corrupt);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(32 * 1024 * 1024);
});

test('another length than announced, longer or shorter - refused', () => {
  for (const packed of [compress(new Uint8Array(5000), 3), compress(randomBytes(5000), 3)]) {
    expect(decompress(packed, 5000, 'p').length).toBe(5000);
    for (const rawBytes of [0, 4999, 5001]) expect(() => decompress(packed, rawBytes, 'p')).toThrow(corrupt);
  }
});

test('an unknown codec - UNSUPPORTED; what is no zstd, or is cut off - CORRUPT', () => {
  const { body } = compress(Buffer.alloc(5000, 'rows'), 3);
  expect(() => decompress({ codec: 2, body }, 5000, 'p')).toThrow(
    expect.objectContaining({ code: 'UNSUPPORTED' }),
  );
  expect(() => decompress({ codec: CODEC_ZSTD, body: randomBytes(50) }, 5000, 'p')).toThrow(corrupt);
  for (let length = 0; length < body.length; length += 1)
    expect(() => decompress({ codec: CODEC_ZSTD, body: body.subarray(0, length) }, 5000, 'p')).toThrow(
      corrupt,
    );
});

test('an empty body - a frame of nothing', () => {
  const packed = compress(new Uint8Array(0), 3);
  expect(packed.codec).toBe(CODEC_NONE);
  expect(decompress(packed, 0, 'p').length).toBe(0);
});

test('levels as people write them', () => {
  expect(['none', 'zstd', 'zstd:1', 'zstd:19'].map(parseCompression)).toEqual([null, 3, 1, 19]);
  for (const text of ['zstd:1', 'zstd:19', 'none'])
    expect(formatCompression(parseCompression(text))).toBe(text);
  for (const text of ['', 'zstd:0', 'zstd:20', 'zstd:', 'gzip', 'ZSTD', 'zstd:-1', 'zstd:1.5'])
    expect(() => parseCompression(text), text).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

/** A body whose blocks compress more or less well, so that zstd may cut it into smaller ones. */
function uneven(size: number): Uint8Array {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at += 64) {
    const noise = at % 70_000 < 20_000 ? 60 : 3;
    randomBytes(Math.min(noise, size - at)).copy(bytes, at);
  }
  return bytes;
}

test('the beginning of a body - is what it begins with, and less work where the rest is not wanted', () => {
  for (const size of [1, 5000, 131_072, 131_073, 400_000, FRAME_BODY_BYTES]) {
    for (const body of [uneven(size), new Uint8Array(size), randomBytes(size)]) {
      for (const level of [null, 1, 3, 19]) {
        const packed = compress(body, level);
        for (const upTo of [1, 8192, 131_072, 131_073, 262_144, size - 1, size]) {
          if (upTo < 1 || upTo > size) continue;
          const start = decompressStart(packed, { raw: size, upTo }, 'p');
          expect(start.length).toBeGreaterThanOrEqual(upTo);
          expect(Buffer.compare(start, body.subarray(0, start.length))).toBe(0);
        }
      }
    }
  }
  const packed = compress(uneven(FRAME_BODY_BYTES), 3);
  expect(decompressStart(packed, { raw: FRAME_BODY_BYTES, upTo: 8192 }, 'p').length).toBeLessThan(200_000);
});

test('the beginning of what is damaged, cut off, or no zstd - CORRUPT, or all of what it says to be', () => {
  const body = uneven(FRAME_BODY_BYTES);
  const packed = compress(body, 3);
  const all = { raw: body.length, upTo: 500_000 };
  for (const cut of [0, 3, 5, 20, 10_000, 100_000]) {
    const short = { codec: CODEC_ZSTD, body: packed.body.subarray(0, cut) };
    expect(() => decompressStart(short, all, 'p'), `cut to ${cut}`).toThrow(corrupt);
  }
  expect(() => decompressStart({ codec: CODEC_ZSTD, body: randomBytes(5000) }, all, 'p')).toThrow(corrupt);
  expect(() =>
    decompressStart({ codec: CODEC_ZSTD, body: packed.body }, { raw: 1000, upTo: 900 }, 'p'),
  ).toThrow(corrupt);
});
