import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Keyring } from '../../src/crypto/keyring.ts';
import {
  encodeHeader,
  FRAME_OVERHEAD_BYTES,
  FrameCipher,
  HEADER_BYTES,
  newHeader,
  type ObjectHeader,
  parseHeader,
} from '../../src/crypto/sealed-frame.ts';

const key = randomBytes(32);
const header = newHeader('pack', 1);
const path = 'instances/production/packs/a/b';
const damage = expect.objectContaining({ code: 'CORRUPT', details: { object: path } });

function seal(
  number: number | 'footer',
  body: Uint8Array,
  at: { header?: ObjectHeader; path?: string } = {},
): Uint8Array {
  const cipher = new FrameCipher(key, at.header ?? header, at.path ?? path);
  const target = new Uint8Array(body.length + FRAME_OVERHEAD_BYTES);
  expect(cipher.sealInto(target, 0, { number, codec: 1, body })).toBe(target.length);
  return target;
}

test('any body under any number - opens as it was sealed, under no other number', () => {
  const cipher = new FrameCipher(key, header, path);
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 3000 }),
      fc.integer({ min: 0, max: 2 ** 40 }),
      fc.integer({ min: 0, max: 2 ** 40 }),
      (body, number, other) => {
        const sealed = seal(number, body);
        expect(cipher.open(number, sealed)).toEqual({ codec: 1, body: Buffer.from(body) });
        if (other !== number) expect(() => cipher.open(other, sealed)).toThrow(damage);
        expect(() => cipher.open('footer', sealed)).toThrow(damage);
      },
    ),
    { numRuns: 200 },
  );
});

test('one bit of a frame changed, anywhere - does not open', () => {
  const cipher = new FrameCipher(key, header, path);
  const sealed = seal(7, randomBytes(40));
  for (let bit = 0; bit < sealed.length * 8; bit += 1) {
    const copy = sealed.slice();
    copy[bit >> 3] = copy[bit >> 3]! ^ (1 << (bit & 7));
    expect(() => cipher.open(7, copy)).toThrow(damage);
  }
});

test('a frame that is cut off, down to nothing - does not open', () => {
  const cipher = new FrameCipher(key, header, path);
  const sealed = seal(0, randomBytes(20));
  for (let length = 0; length < sealed.length; length += 1)
    expect(() => cipher.open(0, sealed.subarray(0, length))).toThrow(damage);
});

test('the footer as a frame, a frame as the footer - do not open', () => {
  const cipher = new FrameCipher(key, header, path);
  const body = randomBytes(30);
  expect(cipher.open('footer', seal('footer', body)).body).toEqual(body);
  expect(() => cipher.open(0, seal('footer', body))).toThrow(damage);
  // The footer's nonce begins with a 1 where a frame's has a 0: no number reaches it.
  expect(() => cipher.open(2 ** 53 - 1, seal('footer', body))).toThrow(damage);
});

test('a frame of another object, path, kind, generation or key - does not open', () => {
  const body = randomBytes(30);
  const cipher = new FrameCipher(key, header, path);
  expect(cipher.open(0, seal(0, body)).body).toEqual(body);
  for (const at of [
    { header: newHeader('pack', 1) },
    { header: { ...header, kind: 'log' } as const },
    { header: { ...header, generation: 2 } },
    { path: `${path}c` },
  ])
    expect(() => cipher.open(0, seal(0, body, at))).toThrow(damage);
  expect(() => new FrameCipher(randomBytes(32), header, path).open(0, seal(0, body))).toThrow(damage);
});

test('two objects of the same content - share no byte of ciphertext beyond chance', () => {
  const body = new Uint8Array(4096);
  const [first, second] = [seal(0, body), seal(0, body, { header: newHeader('pack', 1) })];
  const equal = first.filter((byte, index) => byte === second[index]).length;
  expect(equal).toBeLessThan(100);
  expect(seal(1, body).filter((byte, index) => byte === first[index]).length).toBeLessThan(100);
});

test('a header - reads as it was written, and one bit changed makes another one or is refused', () => {
  const bytes = encodeHeader(header);
  expect(bytes.length).toBe(HEADER_BYTES);
  expect(parseHeader(bytes, path)).toEqual({ ...header, objectId: Buffer.from(header.objectId) });
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const copy = Buffer.from(bytes);
    copy[bit >> 3] = copy[bit >> 3]! ^ (1 << (bit & 7));
    let read: ObjectHeader;
    try {
      read = parseHeader(copy, path);
    } catch (error) {
      expect(error).toMatchObject({
        code: expect.stringMatching(/^(CORRUPT|UNSUPPORTED)$/),
        details: { object: path },
      });
      continue;
    }
    // What it reads is authenticated with every frame, so it must not read as the same.
    expect(encodeHeader(read)).not.toEqual(bytes);
  }
});

test('a header that is cut off, or not one - CORRUPT', () => {
  const bytes = encodeHeader(header);
  for (let length = 0; length < bytes.length; length += 1)
    expect(() => parseHeader(bytes.subarray(0, length), path)).toThrow(damage);
  expect(() => parseHeader(Buffer.alloc(40), path)).toThrow(damage);
});

test('a newer format version or a feature flag - UNSUPPORTED, whatever else there is', () => {
  for (const [offset, value] of [
    [7, 2],
    [8, 2],
    [16, 1],
    [19, 128],
  ] as const) {
    const bytes = encodeHeader(header);
    bytes[offset] = value;
    expect(() => parseHeader(bytes, path)).toThrow(expect.objectContaining({ code: 'UNSUPPORTED' }));
  }
});

test('a keyring - seals with the newest generation, opens with all, never shows its keys', () => {
  const keys = new Map([
    [1, new Uint8Array(32).fill(1)],
    [3, new Uint8Array(32).fill(3)],
  ]);
  const keyring = Keyring.fromWorker(structuredClone(new Keyring(keys).toWorker()));
  expect(keyring.current).toBe(3);
  expect(keyring.key(1)).toEqual(keys.get(1));
  expect(() => keyring.key(2)).toThrow(expect.objectContaining({ code: 'KEY_WRONG' }));
  expect(JSON.stringify({ keyring })).toBe('{"keyring":"[redacted]"}');
});
