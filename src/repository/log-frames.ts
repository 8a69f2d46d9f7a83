import type { Keyring } from '../crypto/keyring.ts';
import { HEADER_BYTES } from '../crypto/sealed-frame.ts';
import { openFrame, openSealedBytes } from './sealed-reader.ts';

/**
 * The pieces of a fetched log object in order, for who writes each down at once. Sealing proves every piece and how many
 * there are; the hash over the whole is not computed, which would take as long as unpacking does.
 *
 * @throws CORRUPT
 */
export function* logFrames(
  stored: Uint8Array,
  object: { readonly path: string; readonly keyring: Keyring },
): Generator<Uint8Array, void, undefined> {
  const { path, keyring } = object;
  const { cipher, footer } = openSealedBytes(stored, { path, kind: 'log', keyring });
  let offset = HEADER_BYTES;
  for (const [number, [length, raw]] of footer.frames.entries()) {
    yield openFrame(cipher, { number, raw, path }, stored.subarray(offset, offset + length));
    offset += length;
  }
}
