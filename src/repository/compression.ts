import { promisify } from 'node:util';
import { constants, zstdCompress, zstdCompressSync, zstdDecompress, zstdDecompressSync } from 'node:zlib';
import { AppError } from '../base/errors.ts';
import { zstdPrefix } from './zstd-blocks.ts';

/** zstd level 1 to 19, or null for none. */
export type CompressionLevel = number | null;

export const CODEC_NONE = 0;
export const CODEC_ZSTD = 1;
/** The most a frame's body may be when opened (docs/format.md): what bounds a decompressor. */
export const FRAME_BODY_BYTES = 1024 * 1024;

/** Reads `zstd:1` … `zstd:19`, `zstd` or `none`. @throws USAGE */
export function parseCompression(text: string): CompressionLevel {
  if (text === 'none') return null;
  const level = /^zstd(?::(\d{1,2}))?$/.exec(text);
  const value = Number(level?.[1] ?? 3);
  if (!level || value < 1 || value > 19) {
    throw new AppError('USAGE', `unable to use compression '${text}'`, {
      hint: 'Use zstd:1 to zstd:19, or none.',
    });
  }
  return value;
}

export function formatCompression(level: CompressionLevel): string {
  return level === null ? 'none' : `zstd:${level}`;
}

/** What a body is a piece of: pages and other files, or the log. */
export type Content = 'files' | 'log';

/** A body as it is sealed. */
export interface PackedBody {
  readonly codec: number;
  readonly body: Uint8Array;
}

/** Compresses a body; what does not get smaller stays as it is. */
export function compress(body: Uint8Array, level: CompressionLevel, content: Content = 'files'): PackedBody {
  if (level === null || body.length === 0) return { codec: CODEC_NONE, body };
  return smaller(body, zstdCompressSync(body, zstdOptions(body, level, content)));
}

/** The same on the thread pool: for a thread that has something else to do, or no others beside it. */
export async function compressInBackground(
  body: Uint8Array,
  level: CompressionLevel,
  content: Content = 'files',
): Promise<PackedBody> {
  if (level === null || body.length === 0) return { codec: CODEC_NONE, body };
  return smaller(body, await zstdInBackground(body, zstdOptions(body, level, content)));
}

const zstdInBackground = promisify(zstdCompress);

interface ZstdOptions {
  readonly chunkSize: number;
  readonly params: Record<number, number>;
}

function zstdOptions(body: Uint8Array, level: number, content: Content): ZstdOptions {
  // One output chunk of the worst size: the default of 16 KiB costs a copy per chunk (measured: half the speed).
  const chunkSize = Math.max(64, body.length + (body.length >>> 8) + 512);
  const own = content === 'log' ? logParams(level) : filesParams(level);
  return { chunkSize, params: { [constants.ZSTD_c_compressionLevel]: level, ...own } };
}

function filesParams(level: number): Record<number, number> {
  const params = { [constants.ZSTD_c_checksumFlag]: 1 };
  if (level !== 3 && level !== 4) return params;
  // These levels choose tables for inputs of any size, which do not fit a core's L2 cache. For frames of 1 MiB smaller
  // ones lose 0.8 % of the ratio (3.98 to 3.95 on a mixed database) and are a quarter faster.
  return { ...params, [constants.ZSTD_c_hashLog]: 16, [constants.ZSTD_c_chainLog]: 15 };
}

/**
 * Log is archived while the server waits. Up to level 4 it is compressed by level 1's search, which finds what repeats at
 * once, as records do, but for matches of 5 bytes, not 7, and in a table and a window that fit a core's L1 and L2 cache.
 * Measured on a shop's log, a segment of 16 MiB: 16 ms and 1.46 MB; level 1 itself 18 ms and 1.60 MB, level 3 22 ms and 1.46 MB.
 * zstd's checksum, a tenth of a millisecond for each frame, is left out: a log file's SHA-256 is compared whenever it is read.
 */
function logParams(level: number): Record<number, number> {
  const params = { [constants.ZSTD_c_checksumFlag]: 0 };
  if (level > 4) return params;
  return {
    ...params,
    [constants.ZSTD_c_compressionLevel]: 1,
    [constants.ZSTD_c_minMatch]: 5,
    [constants.ZSTD_c_hashLog]: 13,
    [constants.ZSTD_c_windowLog]: 18,
  };
}

function smaller(body: Uint8Array, packed: Uint8Array): PackedBody {
  return packed.length < body.length ? { codec: CODEC_ZSTD, body: packed } : { codec: CODEC_NONE, body };
}

/** The inverse; `rawBytes` is what the authenticated footer says, and a body that opens to more or less is damage. @throws CORRUPT */
export function decompress(
  frame: { readonly codec: number; readonly body: Uint8Array },
  rawBytes: number,
  path: string,
): Uint8Array {
  if (rawBytes > FRAME_BODY_BYTES) throw damaged(path, 'a frame is larger than the format allows');
  return checkLength(decompressUpTo(frame, rawBytes, path), rawBytes, path);
}

/**
 * The beginning of what {@link decompress} gives: at least the first `upTo` bytes, and often no more. zstd's own checksum, of
 * the whole, is compared only where all of it comes.
 * @throws CORRUPT
 */
export function decompressStart(
  frame: { readonly codec: number; readonly body: Uint8Array },
  bytes: { readonly raw: number; readonly upTo: number },
  path: string,
): Uint8Array {
  const stored = frame.codec === CODEC_ZSTD ? zstdPrefix(frame.body, bytes.upTo) : frame.body.length;
  if (stored < frame.body.length && bytes.raw <= FRAME_BODY_BYTES) {
    try {
      const options = { ...unzstdOptions(bytes.raw), finishFlush: constants.ZSTD_e_flush };
      const start = zstdDecompressSync(frame.body.subarray(0, stored), options);
      if (start.length >= bytes.upTo) return start;
    } catch (error) {
      throw damaged(path, 'a frame does not decompress', error);
    }
  }
  return decompress(frame, bytes.raw, path);
}

/** The same as {@link decompress} on the thread pool: for a thread that goes on with what it has meanwhile. @throws CORRUPT */
export async function decompressInBackground(
  frame: { readonly codec: number; readonly body: Uint8Array },
  rawBytes: number,
  path: string,
): Promise<Uint8Array> {
  if (isPlain(frame, path) || rawBytes > FRAME_BODY_BYTES) return decompress(frame, rawBytes, path);
  const body = await unzstdInBackground(frame.body, unzstdOptions(rawBytes)).catch((error: unknown) => {
    throw damaged(path, 'a frame does not decompress', error);
  });
  return checkLength(body, rawBytes, path);
}

const unzstdInBackground = promisify(zstdDecompress);

/** Decompresses a body of unknown length, at most `limitBytes`. @throws CORRUPT */
export function decompressUpTo(
  frame: { readonly codec: number; readonly body: Uint8Array },
  limitBytes: number,
  path: string,
): Uint8Array {
  if (isPlain(frame, path)) return frame.body;
  try {
    return zstdDecompressSync(frame.body, unzstdOptions(limitBytes));
  } catch (error) {
    throw damaged(path, 'a frame does not decompress', error);
  }
}

function isPlain({ codec }: { readonly codec: number }, path: string): boolean {
  if (codec !== CODEC_NONE && codec !== CODEC_ZSTD)
    throw new AppError('UNSUPPORTED', `unable to read object '${path}': codec ${codec} is not known`);
  return codec === CODEC_NONE;
}

function unzstdOptions(limitBytes: number): { chunkSize: number; maxOutputLength: number } {
  const chunkSize = Math.max(64, Math.min(limitBytes, FRAME_BODY_BYTES));
  return { chunkSize, maxOutputLength: Math.max(1, limitBytes) };
}

function checkLength(body: Uint8Array, rawBytes: number, path: string): Uint8Array {
  if (body.length !== rawBytes) throw damaged(path, 'a frame has another length than its footer says');
  return body;
}

function damaged(path: string, why: string, cause?: unknown): AppError {
  return new AppError('CORRUPT', `object '${path}' is damaged: ${why}`, { details: { object: path }, cause });
}
