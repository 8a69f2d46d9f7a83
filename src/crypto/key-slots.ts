import { createCipheriv, createDecipheriv, hkdfSync, randomBytes, scrypt } from 'node:crypto';
import { AppError } from '../base/errors.ts';

/** What opens a slot. A passphrase is normalised to NFC; a key file's secret is its 32 bytes. */
export type SlotSecret =
  | { readonly kind: 'passphrase'; readonly passphrase: string }
  | { readonly kind: 'key-file'; readonly bytes: Uint8Array };

/** A wrapped copy of one generation's key, as stored in `keys/<generation>/<id>.json` (docs/format.md, "Keys"). */
export interface KeySlot {
  readonly format: 1;
  readonly id: string;
  readonly generation: number;
  readonly kind: 'passphrase' | 'key-file';
  readonly label: string;
  readonly created: string;
  readonly kdf: ScryptKdf | HkdfKdf;
  readonly wrapped: string;
}

interface ScryptKdf {
  readonly name: 'scrypt';
  readonly N: number;
  readonly r: number;
  readonly p: number;
  readonly salt: string;
}

interface HkdfKdf {
  readonly name: 'hkdf-sha256';
  readonly salt: string;
}

/** 128 MiB and about 0.4 s: OWASP's first choice for scrypt. Slots carry their own cost, so it can be raised later. */
const SCRYPT_COST = { N: 131_072, r: 8, p: 1 } as const;
const KEY_FILE_PREFIX = 'aishell-key-1:';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_BYTES = 32;

/** Wraps a generation's key for a secret. `repositoryId` binds the slot to its repository. */
export async function wrapKey(
  key: Uint8Array,
  secret: SlotSecret,
  facts: {
    readonly repositoryId: string;
    readonly generation: number;
    readonly label: string;
    readonly created: string;
  },
): Promise<KeySlot> {
  const id = randomBytes(8).toString('hex');
  const salt = randomBytes(16).toString('base64');
  const kdf: ScryptKdf | HkdfKdf =
    secret.kind === 'passphrase' ? { name: 'scrypt', ...SCRYPT_COST, salt } : { name: 'hkdf-sha256', salt };
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', await wrappingKey(secret, kdf), nonce);
  cipher.setAAD(slotContext(facts.repositoryId, facts.generation, id));
  const sealed = Buffer.concat([nonce, cipher.update(key), cipher.final(), cipher.getAuthTag()]);
  return {
    format: 1,
    id,
    generation: facts.generation,
    kind: secret.kind,
    label: facts.label,
    created: facts.created,
    kdf,
    wrapped: sealed.toString('base64'),
  };
}

/** Opens a slot as {@link parseKeySlot} gives it; null when the secret is not the one it was made for (or the slot was changed). */
export async function unwrapKey(
  slot: KeySlot,
  secret: SlotSecret,
  repositoryId: string,
): Promise<Uint8Array | null> {
  if (slot.kind !== secret.kind) return null;
  const sealed = Buffer.from(slot.wrapped, 'base64');
  const decipher = createDecipheriv(
    'aes-256-gcm',
    await wrappingKey(secret, slot.kdf),
    sealed.subarray(0, NONCE_BYTES),
  );
  decipher.setAAD(slotContext(repositoryId, slot.generation, slot.id));
  decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
  try {
    return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()]);
  } catch {
    return null;
  }
}

/** Reads a slot's JSON. @throws CORRUPT, UNSUPPORTED */
export function parseKeySlot(bytes: Uint8Array, path: string): KeySlot {
  let slot: KeySlot;
  try {
    slot = JSON.parse(Buffer.from(bytes).toString('utf8')) as KeySlot;
  } catch (error) {
    throw damagedSlot(path, 'it is not JSON', error);
  }
  if (typeof slot !== 'object' || slot === null) throw damagedSlot(path, 'it is not a JSON object');
  if (slot.format !== 1)
    throw new AppError(
      'UNSUPPORTED',
      `unable to read key slot '${path}': format ${String(slot.format)} is not known`,
    );
  const { kdf } = slot;
  const strings = [slot.id, slot.label, slot.created, slot.wrapped, kdf?.salt];
  if (
    !Number.isSafeInteger(slot.generation) ||
    slot.generation < 1 ||
    strings.some(text => typeof text !== 'string')
  ) {
    throw damagedSlot(path, 'members are missing');
  }
  if (Buffer.from(slot.wrapped, 'base64').length !== NONCE_BYTES + KEY_BYTES + TAG_BYTES)
    throw damagedSlot(path, 'its wrapped key has the wrong length');
  if (slot.kind === 'passphrase' && kdf.name === 'scrypt') {
    // A hostile slot must not make us allocate without bound: memory is 128 * N * r bytes.
    const bounded =
      [kdf.N, kdf.r, kdf.p].every(each => Number.isSafeInteger(each) && each >= 1) &&
      kdf.N <= 1 << 20 &&
      kdf.r <= 16 &&
      kdf.p <= 4;
    const isPowerOfTwo = kdf.N >= 2 && (kdf.N & (kdf.N - 1)) === 0;
    if (!bounded || !isPowerOfTwo) throw damagedSlot(path, 'its scrypt cost is out of bounds');
    return slot;
  }
  if (slot.kind === 'key-file' && kdf.name === 'hkdf-sha256') return slot;
  throw new AppError(
    'UNSUPPORTED',
    `unable to use key slot '${path}': kind '${String(slot.kind)}' is not known`,
  );
}

/** A new key file's content. */
export function newKeyFile(): string {
  return `${KEY_FILE_PREFIX}${randomBytes(KEY_BYTES).toString('base64')}\n`;
}

/** Reads a key file's content. @throws KEY_WRONG */
export function parseKeyFile(text: string, path: string): SlotSecret {
  const line = text.trim();
  const bytes = line.startsWith(KEY_FILE_PREFIX)
    ? Buffer.from(line.slice(KEY_FILE_PREFIX.length), 'base64')
    : Buffer.alloc(0);
  if (bytes.length !== KEY_BYTES) {
    throw new AppError('KEY_WRONG', `unable to use '${path}': it is not an aishell key file`, {
      hint: `A key file is one line that begins with ${KEY_FILE_PREFIX}`,
    });
  }
  return { kind: 'key-file', bytes };
}

async function wrappingKey(secret: SlotSecret, kdf: ScryptKdf | HkdfKdf): Promise<Uint8Array> {
  const salt = Buffer.from(kdf.salt, 'base64');
  if (secret.kind === 'key-file')
    return Buffer.from(hkdfSync('sha256', secret.bytes, salt, 'aishell/1/key-file', KEY_BYTES));
  const { N, r, p } = kdf as ScryptKdf;
  return new Promise((resolve, reject) => {
    scrypt(
      secret.passphrase.normalize('NFC'),
      salt,
      KEY_BYTES,
      // What it needs is 128 * r * (N + p + 2); a slot that asks for little must not fail for that.
      { N, r, p, maxmem: 256 * r * (N + p) },
      (error, key) => (error ? reject(error) : resolve(key)),
    );
  });
}

function slotContext(repositoryId: string, generation: number, slotId: string): Buffer {
  return Buffer.from(`aishell/1/slot/${repositoryId}/${generation}/${slotId}`);
}

function damagedSlot(path: string, why: string, cause?: unknown): AppError {
  return new AppError('CORRUPT', `unable to read key slot '${path}': ${why}`, {
    hint: 'Other slots may still open the repository; restore this object from another copy.',
    details: { object: path },
    cause,
  });
}
