import { randomUUID } from 'node:crypto';
import { beforeAll, expect, test, vi } from 'vitest';
import { AppError } from '../../src/base/errors.ts';
import { newKeyFile, parseKeyFile, type SlotSecret } from '../../src/crypto/key-slots.ts';
import { checkIdentity, putIdentity, readIdentities } from '../../src/repository/identity.ts';
import { probeStorage } from '../../src/repository/probe.ts';
import {
  createRepository,
  openRepository,
  type Repository,
  readSlots,
} from '../../src/repository/repository.ts';
import { faultyStorage } from '../../src/storage/faulty/faulty-storage.ts';
import { memoryStorage } from '../../src/storage/memory/memory-storage.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { keysOf, memoryRepository } from './memory-repository.ts';

// Enough for a machine that is busy with other tests.
vi.setConfig({ testTimeout: 60_000 });

const keyFile = parseKeyFile(newKeyFile(), 'aishell.key');
const passphrase: SlotSecret = { kind: 'passphrase', passphrase: 'correct horse battery staple' };
let objects: ReadonlyMap<string, Uint8Array>;
let made: Repository;

beforeAll(async () => {
  made = await createRepository(memoryStorage(randomUUID()), [
    { secret: keyFile, label: 'key file' },
    { secret: passphrase, label: 'recovery kit' },
  ]);
  const all = new Map<string, Uint8Array>();
  for (const key of await keysOf(made, '')) all.set(key, (await made.storage.get(key))!);
  objects = all;
});

/** The repository once more, with some objects changed or, by null, gone. */
async function copyWith(changes: Readonly<Record<string, Uint8Array | null>>): Promise<Storage> {
  const storage = memoryStorage(randomUUID());
  for (const [key, bytes] of objects) if (!(key in changes)) await storage.put(key, bytes);
  for (const [key, bytes] of Object.entries(changes)) if (bytes !== null) await storage.put(key, bytes);
  return storage;
}

const slotOf = (kind: string): string => {
  for (const [key, bytes] of objects)
    if (key.startsWith('keys/') && Buffer.from(bytes).includes(`"kind": "${kind}"`)) return key;
  throw new Error(`there is no slot of kind ${kind}`);
};

const changed = (key: string, change: Readonly<Record<string, unknown>>): Uint8Array =>
  Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(objects.get(key)!).toString('utf8')), ...change }));

test('a new repository - its id, two slots, and the same key by both ways', async () => {
  expect([...objects.keys()].map(key => key.replace(/[0-9a-f]{16}/, 'ID'))).toEqual([
    'keys/0001/ID.json',
    'keys/0001/ID.json',
    'repository.json',
  ]);
  for (const secret of [keyFile, passphrase]) {
    const opened = await openRepository(await copyWith({}), secret);
    expect(opened.id).toBe(made.id);
    expect(opened.keyring.toWorker()).toEqual(
      made.keyring.toWorker().map(([generation, key]) => [generation, Buffer.from(key)]),
    );
  }
});

test('a wrong passphrase or key file - KEY_WRONG, with what to check', async () => {
  for (const secret of [
    { kind: 'passphrase', passphrase: 'wrong' },
    parseKeyFile(newKeyFile(), 'x'),
  ] as const) {
    await expect(openRepository(made.storage, secret)).rejects.toMatchObject({
      code: 'KEY_WRONG',
      exitCode: 9,
      hint: expect.stringContaining('aishell.yaml'),
    });
  }
});

test('no repository - REPOSITORY_NOT_FOUND; one already - EXISTS, nothing is changed', async () => {
  await expect(openRepository(memoryStorage(randomUUID()), keyFile)).rejects.toMatchObject({
    code: 'REPOSITORY_NOT_FOUND',
  });
  const storage = await copyWith({});
  await expect(createRepository(storage, [{ secret: keyFile, label: 'x' }])).rejects.toMatchObject({
    code: 'EXISTS',
  });
  expect((await readSlots(storage)).slots.length).toBe(2);
});

test('a slot that is damaged or gone - the other one opens', async () => {
  for (const bytes of [
    Buffer.from('{'),
    new Uint8Array(0),
    changed(slotOf('passphrase'), { wrapped: 'AAAA' }),
    null,
  ]) {
    const storage = await copyWith({ [slotOf('passphrase')]: bytes });
    expect((await openRepository(storage, keyFile)).id).toBe(made.id);
    expect((await readSlots(storage)).problems.length).toBe(bytes === null ? 0 : 1);
    await expect(openRepository(storage, passphrase)).rejects.toMatchObject({
      code: bytes === null ? 'KEY_WRONG' : 'CORRUPT',
      exitCode: 9,
    });
  }
});

test('two slots that change places - both open: each carries its own id', async () => {
  const [a, b] = [slotOf('passphrase'), slotOf('key-file')];
  const storage = await copyWith({ [a]: objects.get(b)!, [b]: objects.get(a)! });
  for (const secret of [keyFile, passphrase])
    expect((await openRepository(storage, secret)).id).toBe(made.id);
});

test('slots of another repository - do not open this one', async () => {
  const other = await createRepository(memoryStorage(randomUUID()), [{ secret: keyFile, label: 'x' }]);
  const [slot] = await keysOf(other, 'keys/');
  const storage = await copyWith({ [slotOf('key-file')]: (await other.storage.get(slot!))! });
  await expect(openRepository(storage, keyFile)).rejects.toMatchObject({ code: 'KEY_WRONG' });
});

test('one bit of repository.json or of a slot, anywhere - the right key or none, never another', async () => {
  for (const key of ['repository.json', slotOf('key-file')]) {
    const bytes = objects.get(key)!;
    let refused = 0;
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const copy = bytes.slice();
      copy[bit >> 3] = copy[bit >> 3]! ^ (1 << (bit & 7));
      try {
        const { keyring } = await openRepository(await copyWith({ [key]: copy }), keyFile);
        expect(keyring.key(1)).toEqual(Buffer.from(made.keyring.key(1)));
      } catch (error) {
        expect(error).toBeInstanceOf(AppError);
        expect(['CORRUPT', 'UNSUPPORTED', 'KEY_WRONG']).toContain((error as AppError).code);
        refused += 1;
      }
    }
    expect(refused).toBeGreaterThan(bytes.length * 2);
  }
});

test('a repository of a newer format, or with an unknown feature - UNSUPPORTED', async () => {
  for (const change of [{ format: 2 }, { format: 0 }, { format: '1' }, { features: ['deduplication'] }]) {
    const storage = await copyWith({ 'repository.json': changed('repository.json', change) });
    await expect(openRepository(storage, keyFile)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  }
  for (const change of [{ id: 'x' }, { id: 1 }, { features: null }]) {
    const storage = await copyWith({ 'repository.json': changed('repository.json', change) });
    await expect(openRepository(storage, keyFile)).rejects.toMatchObject({
      code: 'CORRUPT',
      details: { object: 'repository.json' },
    });
  }
});

test('a storage that fails while it is created - there is no repository, and the same call succeeds then', async () => {
  for (const write of [1, 2]) {
    const inner = memoryStorage(randomUUID());
    const secrets = [{ secret: keyFile, label: 'x' }];
    await expect(
      createRepository(faultyStorage(inner, { write, at: 'middle', action: 'ENOSPC' }), secrets),
    ).rejects.toMatchObject({ code: 'STORAGE_FULL' });
    await expect(openRepository(inner, keyFile)).rejects.toMatchObject({ code: 'REPOSITORY_NOT_FOUND' });
    const { id } = await createRepository(inner, secrets);
    expect((await openRepository(inner, keyFile)).id).toBe(id);
  }
});

test('probe - leaves nothing behind, and refuses a storage that overwrites', async () => {
  const storage = memoryStorage(randomUUID());
  await probeStorage(storage);
  expect(await keysOf({ ...made, storage }, '')).toEqual([]);
  const put: Storage['put'] = async (key, body, options) => {
    await storage.delete(key);
    return await storage.put(key, body, options);
  };
  await expect(probeStorage({ ...storage, put })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  const pretends: Storage['put'] = async (...given) =>
    (await put(...given)) === 'created' ? 'exists' : 'exists';
  await expect(probeStorage({ ...storage, put: pretends })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  expect(await keysOf({ ...made, storage }, '')).toEqual([]);
  await expect(probeStorage(faultyStorage(storage, { reads: { fault: 'flip' } }))).rejects.toMatchObject({
    code: 'UNSUPPORTED',
  });
});

test('identity - the systems an instance has been, each once, in the order they were recorded', async () => {
  const repository = memoryRepository();
  const identity = { instance: 'shop', engine: 'postgresql', serverVersion: 180004 } as const;
  const second = { ...identity, systemIdentifier: '1111', created: '2026-01-01T00:00:00Z' };
  const first = { ...identity, systemIdentifier: '9999', created: '2025-01-01T00:00:00Z' };
  await expect(checkIdentity(repository, first)).rejects.toMatchObject({ code: 'INSTANCE_NOT_FOUND' });
  for (const each of [second, first, second]) await putIdentity(repository, each);
  expect(await readIdentities(repository, 'shop')).toEqual([first, second]);
  expect(await readIdentities(repository, 'sho')).toEqual([]);
  await checkIdentity(repository, second);
  await expect(
    checkIdentity(repository, { instance: 'shop', systemIdentifier: '2222' }),
  ).rejects.toMatchObject({
    code: 'SYSTEM_MISMATCH',
    message: expect.stringContaining('9999 or 1111'),
  });
  await expect(
    checkIdentity(repository, { instance: 'shop', systemIdentifier: '111' }),
  ).rejects.toMatchObject({ code: 'SYSTEM_MISMATCH' });
});

test('what is printed of a repository - holds no key', () => {
  const text = JSON.stringify(made);
  expect(text).toContain('[redacted]');
  for (const [, key] of made.keyring.toWorker()) {
    expect(text).not.toContain(Buffer.from(key).toString('hex'));
    expect(text).not.toContain(Buffer.from(key).toString('base64'));
  }
});
