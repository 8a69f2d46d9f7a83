import { promisify } from 'node:util';
import { constants, zstdCompress, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { AppError } from '../base/errors.ts';

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

/**
 * The level for log files where `level` is configured. Up to zstd:4 it is 1: records are short and repeat at once, which its
 * search finds and a more thorough one does not (measured on 1 MiB of log: 13.5 times smaller at 1.1 GB/s, against 13.2
 * times at 0.7 GB/s with level 3; where most of it is images of pages, 3.79 against 3.73).
 */
export function logLevel(level: CompressionLevel): CompressionLevel {
  return level !== null && level <= 4 ? 1 : level;
}

/** A body as it is sealed. */
export interface PackedBody {
  readonly codec: number;
  readonly body: Uint8Array;
}

/** Compresses a body; what does not get smaller stays as it is. */
export function compress(body: Uint8Array, level: CompressionLevel): PackedBody {
  if (level === null || body.length === 0) return { codec: CODEC_NONE, body };
  return smaller(body, zstdCompressSync(body, zstdOptions(body, level)));
}

/** The same on the thread pool: for a program that has one segment to archive and no threads of its own. */
export async function compressInBackground(body: Uint8Array, level: CompressionLevel): Promise<PackedBody> {
  if (level === null || body.length === 0) return { codec: CODEC_NONE, body };
  return smaller(body, await zstdInBackground(body, zstdOptions(body, level)));
}

const zstdInBackground = promisify(zstdCompress);

function zstdOptions(body: Uint8Array, level: number): { chunkSize: number; params: Record<number, number> } {
  // One output chunk of the worst size: the default of 16 KiB costs a copy per chunk (measured: half the speed).
  const chunkSize = Math.max(64, body.length + (body.length >>> 8) + 512);
  const params = { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 };
  if (level !== 3 && level !== 4) return { chunkSize, params };
  // These levels choose tables for inputs of any size, which do not fit a core's L2 cache. For frames of 1 MiB smaller
  // ones lose 0.8 % of the ratio (3.98 to 3.95 on a mixed database) and are a quarter faster.
  return {
    chunkSize,
    params: { ...params, [constants.ZSTD_c_hashLog]: 16, [constants.ZSTD_c_chainLog]: 15 },
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
  const body = decompressUpTo(frame, rawBytes, path);
  if (body.length !== rawBytes) throw damaged(path, 'a frame has another length than its footer says');
  return body;
}

/** Decompresses a body of unknown length, at most `limitBytes`. @throws CORRUPT */
export function decompressUpTo(
  frame: { readonly codec: number; readonly body: Uint8Array },
  limitBytes: number,
  path: string,
): Uint8Array {
  if (frame.codec === CODEC_NONE) return frame.body;
  if (frame.codec !== CODEC_ZSTD)
    throw new AppError('UNSUPPORTED', `unable to read object '${path}': codec ${frame.codec} is not known`);
  try {
    const chunkSize = Math.max(64, Math.min(limitBytes, FRAME_BODY_BYTES));
    return zstdDecompressSync(frame.body, { chunkSize, maxOutputLength: Math.max(1, limitBytes) });
  } catch (error) {
    throw damaged(path, 'a frame does not decompress', error);
  }
}

function damaged(path: string, why: string, cause?: unknown): AppError {
  return new AppError('CORRUPT', `object '${path}' is damaged: ${why}`, { details: { object: path }, cause });
}
