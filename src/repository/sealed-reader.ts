import { AppError, assert } from '../base/errors.ts';
import { releaseMemory } from '../base/release-memory.ts';
import type { Keyring } from '../crypto/keyring.ts';
import {
  FrameCipher,
  HEADER_BYTES,
  newHeader,
  type ObjectHeader,
  type ObjectKind,
  parseHeader,
} from '../crypto/sealed-frame.ts';
import type { CallOptions, Storage } from '../storage/storage.ts';
import {
  decompress,
  decompressInBackground,
  decompressStart,
  decompressUpTo,
  FRAME_BODY_BYTES,
} from './compression.ts';
import { type FrameEntry, TRAILER_BYTES, TRAILER_MAGIC } from './sealed-writer.ts';

/** A footer of a manifest of a very large instance may be some MiB; this is what a hostile one may make us hold. */
const FOOTER_BODY_BYTES = 256 * FRAME_BODY_BYTES;
/** Most footers fit, so that one request gets both the trailer and the footer. */
const TAIL_BYTES = 64 * 1024;

/** Frames of an object that is read from its beginning to its end. */
const OPENED_AHEAD = 2;

export interface SealedFooter {
  readonly frames: readonly FrameEntry[];
  readonly [fact: string]: unknown;
}

/** An opened sealed object: its footer is read and checked, its frames are read on demand. */
export interface SealedObject {
  readonly path: string;
  readonly header: ObjectHeader;
  readonly footer: SealedFooter;
  readonly sizeBytes: number;
  readonly cipher: FrameCipher;
}

/**
 * Opens an object by its tail. Null when there is none.
 *
 * @throws CORRUPT when anything about header, footer or lengths is not as sealed; UNSUPPORTED; KEY_WRONG
 */
export async function openSealed(
  storage: Storage,
  target: { readonly path: string; readonly kind: ObjectKind; readonly keyring: Keyring },
  options: CallOptions = {},
): Promise<SealedObject | null> {
  const { path } = target;
  const facts = await storage.head(path, options);
  if (facts === null) return null;
  const tail = await storage.get(path, { offset: -TAIL_BYTES }, options);
  const head =
    facts.sizeBytes <= TAIL_BYTES
      ? tail
      : await storage.get(path, { offset: 0, length: HEADER_BYTES }, options);
  if (tail === null || head === null) return null;
  const header = parseHeader(head.subarray(0, HEADER_BYTES), path);
  if (header.kind !== target.kind) throw damaged(path, `it is a ${header.kind}, not a ${target.kind}`);
  const footerBytes = footerLength(tail, path);
  if (footerBytes + TRAILER_BYTES + HEADER_BYTES > facts.sizeBytes) throw damaged(path, 'it is cut off');
  const footerTail =
    footerBytes + TRAILER_BYTES <= tail.length
      ? tail
      : await storage.get(path, { offset: -(footerBytes + TRAILER_BYTES) }, options);
  if (footerTail === null) return null;
  const cipher = new FrameCipher(target.keyring.key(header.generation), header, path);
  const footer = openFooter(
    cipher,
    footerTail.subarray(footerTail.length - TRAILER_BYTES - footerBytes, footerTail.length - TRAILER_BYTES),
    path,
  );
  const framesBytes = footer.frames.reduce((sum, [stored]) => sum + stored, 0);
  if (HEADER_BYTES + framesBytes + footerBytes + TRAILER_BYTES !== facts.sizeBytes)
    throw damaged(path, 'its length is not what its footer says');
  return { path, header, footer, sizeBytes: facts.sizeBytes, cipher };
}

/** Opens an object whose bytes are all at hand. @throws as {@link openSealed} */
export function openSealedBytes(
  bytes: Uint8Array,
  target: { readonly path: string; readonly kind: ObjectKind; readonly keyring: Keyring },
): SealedObject {
  const header = parseHeader(bytes.subarray(0, HEADER_BYTES), target.path);
  if (header.kind !== target.kind) throw damaged(target.path, `it is a ${header.kind}, not a ${target.kind}`);
  const footerBytes = footerLength(bytes, target.path);
  if (footerBytes + TRAILER_BYTES + HEADER_BYTES > bytes.length) throw damaged(target.path, 'it is cut off');
  const cipher = new FrameCipher(target.keyring.key(header.generation), header, target.path);
  const footer = openFooter(
    cipher,
    bytes.subarray(bytes.length - TRAILER_BYTES - footerBytes, bytes.length - TRAILER_BYTES),
    target.path,
  );
  const framesBytes = footer.frames.reduce((sum, [stored]) => sum + stored, 0);
  if (HEADER_BYTES + framesBytes + footerBytes + TRAILER_BYTES !== bytes.length)
    throw damaged(target.path, 'its length is not what its footer says');
  return { path: target.path, header, footer, sizeBytes: bytes.length, cipher };
}

/** The cipher of an object whose header is known without reading it: a pack that a manifest names. */
export function cipherOf(
  keyring: Keyring,
  object: {
    readonly path: string;
    readonly kind: ObjectKind;
    readonly generation: number;
    readonly objectId: Uint8Array;
  },
): FrameCipher {
  return new FrameCipher(
    keyring.key(object.generation),
    newHeader(object.kind, object.generation, object.objectId),
    object.path,
  );
}

/**
 * Opens one stored frame down to its body; with `upTo`, only as far as at least so many bytes of it.
 * @throws CORRUPT, UNSUPPORTED
 */
export function openFrame(
  cipher: FrameCipher,
  frame: { readonly number: number; readonly raw: number; readonly path: string; readonly upTo?: number },
  stored: Uint8Array,
): Uint8Array {
  const { raw, upTo = raw, path } = frame;
  const opened = cipher.open(frame.number, stored);
  const body = upTo < raw ? decompressStart(opened, { raw, upTo }, path) : decompress(opened, raw, path);
  // What was not compressed is the body itself.
  if (body.buffer !== opened.body.buffer) releaseMemory(opened.body);
  return body;
}

/**
 * The bodies of an object's frames in order, reading up to `batchBytes` of stored frames at once.
 *
 * @throws CORRUPT
 */
export async function* frameBodies(
  storage: Storage,
  object: SealedObject,
  options: CallOptions & { readonly batchBytes?: number } = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const batchBytes = options.batchBytes ?? 4 * FRAME_BODY_BYTES;
  let number = 0;
  let offset = HEADER_BYTES;
  while (number < object.footer.frames.length) {
    const batch: FrameEntry[] = [];
    let length = 0;
    for (const entry of object.footer.frames.slice(number, number + 64)) {
      if (batch.length > 0 && length + entry[0] > batchBytes) break;
      batch.push(entry);
      length += entry[0];
    }
    const bytes = await storage.get(object.path, { offset, length }, options);
    if (bytes === null || bytes.length !== length) throw damaged(object.path, 'it is cut off');
    let at = 0;
    /** Opened while what is before them is looked at. */
    const ahead: Promise<Uint8Array>[] = [];
    for (const [stored, raw] of batch) {
      const { codec, body } = object.cipher.open(number, bytes.subarray(at, at + stored));
      const opened = decompressInBackground({ codec, body }, raw, object.path);
      // Of those that nobody comes to, none fails.
      opened.catch(() => undefined);
      ahead.push(opened);
      if (ahead.length > OPENED_AHEAD) yield await ahead.shift()!;
      at += stored;
      number += 1;
    }
    for (const opened of ahead) yield await opened;
    offset += length;
  }
}

/** Refuses an object that must exist and does not. */
export function missing(path: string, what: string): AppError {
  return new AppError('CORRUPT', `object '${path}' is missing (${what})`, { details: { object: path } });
}

function footerLength(tail: Uint8Array, path: string): number {
  const trailer = Buffer.from(tail.buffer, tail.byteOffset, tail.byteLength).subarray(-TRAILER_BYTES);
  if (trailer.length < TRAILER_BYTES || !trailer.subarray(4).equals(TRAILER_MAGIC))
    throw damaged(path, 'it does not end with a trailer: cut off or changed');
  const length = trailer.readUInt32LE(0);
  if (length > FOOTER_BODY_BYTES) throw damaged(path, 'its footer is larger than the format allows');
  return length;
}

function openFooter(cipher: FrameCipher, stored: Uint8Array, path: string): SealedFooter {
  const body = decompressUpTo(cipher.open('footer', stored), FOOTER_BODY_BYTES, path);
  const footer: unknown = JSON.parse(Buffer.from(body).toString('utf8'));
  // Sealed by us: anything else inside an authenticated footer is a bug of the writer, not damage.
  assert(
    typeof footer === 'object' && footer !== null && 'frames' in footer && Array.isArray(footer.frames),
    `footer of ${path} has no frames`,
  );
  return footer as unknown as SealedFooter;
}

function damaged(path: string, why: string): AppError {
  return new AppError('CORRUPT', `object '${path}' is damaged: ${why}`, { details: { object: path } });
}
