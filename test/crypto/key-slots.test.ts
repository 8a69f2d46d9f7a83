import { randomBytes } from 'node:crypto';
import { expect, test, vi } from 'vitest';
import {
  type KeySlot,
  newKeyFile,
  parseKeyFile,
  parseKeySlot,
  type SlotSecret,
  unwrapKey,
  wrapKey,
} from '../../src/crypto/key-slots.ts';

// Enough for a machine that is busy with other tests.
vi.setConfig({ testTimeout: 60_000 });

const key = new Uint8Array(randomBytes(32));
const facts = {
  repositoryId: 'a'.repeat(32),
  generation: 1,
  label: 'recovery kit',
  created: '2025-10-27T14:00:00Z',
};
const keyFile = parseKeyFile(newKeyFile(), 'aishell.key');
const byFile = await wrapKey(key, keyFile, facts);
const composed: SlotSecret = { kind: 'passphrase', passphrase: 'grün käse' };
const byPassphrase = await wrapKey(key, composed, facts);

const bytesOf = (slot: object): Uint8Array => Buffer.from(JSON.stringify(slot));
const parsed = (slot: object): KeySlot => parseKeySlot(bytesOf(slot), 'keys/0001/x.json');

test('the same passphrase in another Unicode form - opens', async () => {
  const passphrase = composed.passphrase.normalize('NFD');
  expect(passphrase).not.toBe(composed.passphrase);
  expect(
    await unwrapKey(parsed(byPassphrase), { kind: 'passphrase', passphrase }, facts.repositoryId),
  ).toEqual(Buffer.from(key));
});

test('another passphrase, and none - do not open', async () => {
  for (const passphrase of ['Grün käse', ''])
    expect(await unwrapKey(byPassphrase, { kind: 'passphrase', passphrase }, facts.repositoryId)).toBeNull();
});

test('a key file - opens its slot, not that of a passphrase; another one does not', async () => {
  expect(await unwrapKey(parsed(byFile), keyFile, facts.repositoryId)).toEqual(Buffer.from(key));
  expect(await unwrapKey(byPassphrase, keyFile, facts.repositoryId)).toBeNull();
  expect(await unwrapKey(byFile, parseKeyFile(newKeyFile(), 'other.key'), facts.repositoryId)).toBeNull();
});

test('a slot of another repository, generation or name - does not open', async () => {
  expect(await unwrapKey(byFile, keyFile, 'b'.repeat(32))).toBeNull();
  expect(await unwrapKey({ ...byFile, generation: 2 }, keyFile, facts.repositoryId)).toBeNull();
  expect(await unwrapKey({ ...byFile, id: '0'.repeat(16) }, keyFile, facts.repositoryId)).toBeNull();
});

test('one bit of the wrapped key or the salt changed - does not open', async () => {
  const wrapped = Buffer.from(byFile.wrapped, 'base64');
  for (let at = 0; at < wrapped.length; at += 1) {
    const copy = Buffer.from(wrapped);
    copy[at] = copy[at]! ^ 0x80;
    expect(
      await unwrapKey({ ...byFile, wrapped: copy.toString('base64') }, keyFile, facts.repositoryId),
    ).toBeNull();
  }
  const salt = Buffer.alloc(16).toString('base64');
  expect(
    await unwrapKey({ ...byFile, kdf: { ...byFile.kdf, salt } }, keyFile, facts.repositoryId),
  ).toBeNull();
});

test('what wraps a key - is never the same twice', async () => {
  const again = await wrapKey(key, keyFile, facts);
  expect(again.id).not.toBe(byFile.id);
  expect(again.kdf.salt).not.toBe(byFile.kdf.salt);
  expect(again.wrapped.slice(0, 16)).not.toBe(byFile.wrapped.slice(0, 16));
  expect(JSON.stringify(again)).not.toContain(Buffer.from(key).toString('base64').slice(0, 20));
});

test.each([
  ['no JSON', Buffer.from('{"format": 1,')],
  ['null', Buffer.from('null')],
  ['a number', Buffer.from('1')],
  ['nothing', new Uint8Array(0)],
  ['a wrapped key that is cut off', bytesOf({ ...byFile, wrapped: byFile.wrapped.slice(0, 40) })],
  ['no salt', bytesOf({ ...byFile, kdf: { name: 'hkdf-sha256' } })],
  ['no derivation', bytesOf({ ...byFile, kdf: undefined })],
  ['generation 0', bytesOf({ ...byFile, generation: 0 })],
  ['generation 1.5', bytesOf({ ...byFile, generation: 1.5 })],
])('a slot that is %s - CORRUPT, with its path', (_, bytes) => {
  expect(() => parseKeySlot(bytes, 'keys/0001/x.json')).toThrow(
    expect.objectContaining({ code: 'CORRUPT', details: { object: 'keys/0001/x.json' } }),
  );
});

test.each([
  ['N of 2 GiB', { N: 2 ** 21 }],
  ['N that is no power of two', { N: 131_073 }],
  ['N of 0', { N: 0 }],
  ['N below 0', { N: -2 }],
  ['N that is text', { N: '131072' }],
  ['r of 17', { r: 17 }],
  ['r of 0', { r: 0 }],
  ['p of 5', { p: 5 }],
  ['p of 0', { p: 0 }],
])('a slot that asks for %s - refused before any work', (_, cost) => {
  expect(() => parsed({ ...byPassphrase, kdf: { ...byPassphrase.kdf, ...cost } })).toThrow(
    expect.objectContaining({ code: 'CORRUPT', message: expect.stringContaining('out of bounds') }),
  );
});

test('a slot of a newer format or kind - UNSUPPORTED', () => {
  const unsupported = expect.objectContaining({ code: 'UNSUPPORTED' });
  expect(() => parsed({ ...byFile, format: 2 })).toThrow(unsupported);
  expect(() => parsed({ ...byFile, kind: 'pkcs11' })).toThrow(unsupported);
  expect(() => parsed({ ...byFile, kdf: { ...byFile.kdf, name: 'argon2id' } })).toThrow(unsupported);
});

test('a file that is no key file - KEY_WRONG, what is in it is not repeated', () => {
  const good = newKeyFile();
  expect(parseKeyFile(`  ${good.trim()}\r\n`, 'a')).toEqual(parseKeyFile(good, 'a'));
  for (const text of ['', 'aishell-key-1:', good.slice(0, -6), good.replace('-1:', '-2:'), 'my-secret']) {
    const refused = (): unknown => parseKeyFile(text, '/etc/aishell/aishell.key');
    expect(refused).toThrow(expect.objectContaining({ code: 'KEY_WRONG' }));
    expect(refused).not.toThrow(/my-secret/);
  }
});

test('a slot that asks for the least of work - tried like any other, so that the next one still opens', async () => {
  const { kdf } = byPassphrase;
  for (const [N, r, p] of [
    [2, 1, 1],
    [2, 1, 4],
    [4, 16, 4],
  ]) {
    const slot = parsed({ ...byPassphrase, kdf: { ...kdf, N, r, p } });
    expect(await unwrapKey(slot, composed, facts.repositoryId), `${N} ${r} ${p}`).toBeNull();
  }
});
