import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { AppError } from '../base/errors.ts';
import { releaseMemory } from '../base/release-memory.ts';

/** What a sealed object holds; the byte at offset 10 of its header. */
export const objectKinds = {
  manifest: 1,
  pack: 2,
  log: 3,
  identity: 4,
  summary: 5,
  catalog: 6,
  emergency: 7,
  incident: 8,
} as const;
export type ObjectKind = keyof typeof objectKinds;

export const HEADER_BYTES = 40;
export const TAG_BYTES = 16;
/** Tag and codec byte: what sealing adds to a body. */
export const FRAME_OVERHEAD_BYTES = TAG_BYTES + 1;
const MAGIC = Buffer.from([0x41, 0x49, 0x53, 0x48, 0x45, 0x4c, 0x4c, 0x01]);
const FORMAT_VERSION = 1;
const FOOTER_NONCE = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

export interface ObjectHeader {
  readonly kind: ObjectKind;
  readonly generation: number;
  /** 16 bytes. */
  readonly objectId: Uint8Array;
}

/** Makes the header of a new object; without an id, a random one. */
export function newHeader(
  kind: ObjectKind,
  generation: number,
  objectId: Uint8Array = randomBytes(16),
): ObjectHeader {
  return { kind, generation, objectId };
}

export function encodeHeader(header: ObjectHeader): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(bytes);
  bytes.writeUInt16LE(FORMAT_VERSION, 8);
  bytes[10] = objectKinds[header.kind];
  bytes.writeUInt32LE(header.generation, 12);
  bytes.set(header.objectId, 24);
  return bytes;
}

/** Reads a header and refuses what this version does not know. @throws CORRUPT, UNSUPPORTED */
export function parseHeader(bytes: Uint8Array, path: string): ObjectHeader {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.length < HEADER_BYTES || !view.subarray(0, 7).equals(MAGIC.subarray(0, 7))) {
    throw damagedHeader(path, 'it does not begin with a header');
  }
  const version = view.readUInt16LE(8);
  if (view[7] !== MAGIC[7] || version !== FORMAT_VERSION || view.readUInt32LE(16) !== 0) {
    throw new AppError(
      'UNSUPPORTED',
      `unable to read object '${path}': its format version or features are not known`,
      {
        hint: 'It may be damaged, or written by a newer version of aishell: then install that one.',
        details: { object: path },
      },
    );
  }
  // What is authenticated is a header made anew from what was read, so these bytes must be looked at here.
  if (view[11] !== 0 || view.readUInt32LE(20) !== 0)
    throw damagedHeader(path, 'bytes of its header that are zero were changed');
  const kind = (Object.keys(objectKinds) as ObjectKind[]).find(name => objectKinds[name] === view[10]);
  if (kind === undefined) throw damagedHeader(path, `its kind ${String(view[10])} is not known`);
  return { kind, generation: view.readUInt32LE(12), objectId: view.subarray(24, 40) };
}

function damagedHeader(path: string, why: string): AppError {
  return new AppError('CORRUPT', `object '${path}' is damaged: ${why}`, { details: { object: path } });
}

/**
 * Seals and opens the frames of one object. The key is derived for this object alone and nonces are frame numbers, so no
 * nonce is ever used twice under a key; the object's path is authenticated, so an object in another's place does not open.
 */
export class FrameCipher {
  readonly #key: Uint8Array;
  readonly #context: Uint8Array;
  readonly #path: string;

  constructor(generationKey: Uint8Array, header: ObjectHeader, path: string) {
    this.#key = Buffer.from(hkdfSync('sha256', generationKey, header.objectId, 'aishell/1/object', 32));
    this.#context = Buffer.concat([encodeHeader(header), Buffer.from(path, 'utf8')]);
    this.#path = path;
  }

  /** Seals a body into `target` at `offset`; returns how many bytes were written: the body's and FRAME_OVERHEAD_BYTES. */
  sealInto(
    target: Uint8Array,
    offset: number,
    frame: { readonly number: number | 'footer'; readonly codec: number; readonly body: Uint8Array },
  ): number {
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonceOf(frame.number));
    cipher.setAAD(this.#context);
    target.set(cipher.update(Uint8Array.of(frame.codec)), offset);
    const sealed = cipher.update(frame.body);
    target.set(sealed, offset + 1);
    releaseMemory(sealed);
    cipher.final();
    target.set(cipher.getAuthTag(), offset + 1 + frame.body.length);
    return frame.body.length + FRAME_OVERHEAD_BYTES;
  }

  /** Opens a stored frame. @throws CORRUPT when a byte of it, its number or its place is not what was sealed */
  open(number: number | 'footer', stored: Uint8Array): { readonly codec: number; readonly body: Uint8Array } {
    if (stored.length < FRAME_OVERHEAD_BYTES) throw this.#damaged(number, 'it is cut off');
    const decipher = createDecipheriv('aes-256-gcm', this.#key, nonceOf(number));
    decipher.setAAD(this.#context);
    decipher.setAuthTag(stored.subarray(stored.length - TAG_BYTES));
    const plain = decipher.update(stored.subarray(0, stored.length - TAG_BYTES));
    try {
      decipher.final();
    } catch {
      throw this.#damaged(number, 'its bytes were changed, or it belongs elsewhere');
    }
    return { codec: plain[0] ?? 0, body: plain.subarray(1) };
  }

  #damaged(number: number | 'footer', why: string): AppError {
    const what = number === 'footer' ? 'the footer' : `frame ${number}`;
    return new AppError('CORRUPT', `object '${this.#path}' is damaged: ${what} does not open (${why})`, {
      details: { object: this.#path },
    });
  }
}

function nonceOf(number: number | 'footer'): Uint8Array {
  if (number === 'footer') return FOOTER_NONCE;
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64BE(BigInt(number), 4);
  return nonce;
}
