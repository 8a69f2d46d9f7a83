import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type FaultPlan, parseFaultPlan } from '../../../src/storage/faulty/fault-plan.ts';
import { faultyStorage } from '../../../src/storage/faulty/faulty-storage.ts';
import { readCountedWrites } from '../../../src/storage/faulty/write-counter.ts';
import { memoryStorage } from '../../../src/storage/memory/memory-storage.ts';
import { openStorage } from '../../../src/storage/registry.ts';
import { keysOf } from '../bodies.ts';
import { runChild } from '../start-child.ts';
import { storageContract } from '../storage-contract.ts';
import { temporaryDirectory } from '../temporary-directory.ts';

const body = new Uint8Array([1, 2, 3, 4]);
const withPlan = (plan: FaultPlan) => {
  const inner = memoryStorage(randomUUID());
  return { inner, storage: faultyStorage(inner, plan) };
};

storageContract('faulty with an empty plan', async () => ({
  storage: faultyStorage(memoryStorage(randomUUID()), {}),
  close: async () => undefined,
}));

test.each([
  ['ENOSPC', 'STORAGE_FULL'],
  ['EACCES', 'STORAGE_DENIED'],
  ['UNREACHABLE', 'STORAGE_UNREACHABLE'],
] as const)('the second write gets %s - %s once, then it works again', async (action, code) => {
  const { inner, storage } = withPlan({ write: 2, action });
  await storage.put('a', body);
  await expect(storage.put('b', body)).rejects.toMatchObject({ code });
  expect(await inner.head('b')).toBeNull();
  expect(await storage.put('b', body)).toBe('created');
});

test('a lasting fault - every later write too, reads go on', async () => {
  const { inner, storage } = withPlan({ write: 2, action: 'UNREACHABLE', lasting: true });
  await storage.put('a', body);
  await expect(storage.put('b', body)).rejects.toThrow('injected');
  await expect(storage.delete('a')).rejects.toThrow('injected');
  expect(await storage.get('a')).toEqual(body);
  expect(await keysOf(inner.list(''))).toEqual(['a']);
});

test('a fault in the middle - nothing is there', async () => {
  const { inner, storage } = withPlan({ write: 1, action: 'ENOSPC', at: 'middle' });
  await expect(storage.put('a', body)).rejects.toMatchObject({ code: 'STORAGE_FULL' });
  expect(await inner.head('a')).toBeNull();
});

test('a fault after the write - it is done although the caller is told it failed', async () => {
  const { inner, storage } = withPlan({ write: 1, action: 'UNREACHABLE', at: 'after', lasting: true });
  await expect(storage.put('a', body)).rejects.toMatchObject({ code: 'STORAGE_UNREACHABLE' });
  expect(await inner.get('a')).toEqual(body);
  await expect(storage.delete('a')).rejects.toMatchObject({ code: 'STORAGE_UNREACHABLE' });
  expect(await inner.get('a')).toBeNull();
});

test('damaged reads - only of the keys that match', async () => {
  const read = async (fault: 'truncate' | 'flip' | 'missing', key: string) => {
    const { inner, storage } = withPlan({ reads: { fault, key: '^packs/' } });
    await inner.put('packs/a', body);
    await inner.put('other', body);
    return {
      bytes: await storage.get(key),
      facts: await storage.head(key),
      keys: await keysOf(storage.list('')),
    };
  };
  expect(await read('truncate', 'packs/a')).toMatchObject({
    bytes: body.slice(0, 2),
    facts: { sizeBytes: 4 },
  });
  expect((await read('flip', 'packs/a')).bytes).toEqual(new Uint8Array([1, 2, 2, 4]));
  expect(await read('missing', 'packs/a')).toEqual({ bytes: null, facts: null, keys: ['other'] });
  for (const fault of ['truncate', 'flip', 'missing'] as const)
    expect((await read(fault, 'other')).bytes).toEqual(body);
});

test('refused reads - the error by get, head and list', async () => {
  const { inner, storage } = withPlan({ reads: { fault: 'EACCES' } });
  await inner.put('a', body);
  await expect(storage.get('a')).rejects.toMatchObject({ code: 'STORAGE_DENIED' });
  await expect(storage.head('a')).rejects.toMatchObject({ code: 'STORAGE_DENIED' });
  await expect(keysOf(storage.list(''))).rejects.toMatchObject({ code: 'STORAGE_DENIED' });
});

test('a slow storage - takes its time, and an abort does not wait for it', async () => {
  const { storage } = withPlan({ delayMs: 50 });
  const startedAt = performance.now();
  await storage.put('a', body);
  expect(performance.now() - startedAt).toBeGreaterThan(45);
  const hanging = withPlan({ delayMs: 1e9 }).storage;
  await expect(hanging.get('a', undefined, { signal: AbortSignal.timeout(20) })).rejects.toThrow('timeout');
});

test('writes of several processes - counted once each, in one order', async () => {
  await using directory = await temporaryDirectory();
  const [counterFile, root] = [join(directory.path, 'writes'), join(directory.path, 'repository')];
  const keys = ['a', 'b', 'c', 'd', 'e'];
  const outcomes = await Promise.all(
    keys.map(key =>
      runChild({ do: 'put', root, key, sizeBytes: 1 }, { write: 3, action: 'ENOSPC', counterFile }),
    ),
  );
  const failed = keys.filter((_, index) => outcomes[index]?.error?.code === 'STORAGE_FULL');
  const writes = await readCountedWrites(counterFile);
  expect(writes.toSorted()).toEqual(keys.map(key => `put ${key}`));
  expect(failed.map(key => `put ${key}`)).toEqual([writes[2]]);
});

test.each([
  '',
  '[]',
  'null',
  '{"writes":1}',
  '{"write":0,"action":"kill"}',
  '{"write":1}',
  '{"action":"kill"}',
  '{"write":1,"action":"explode"}',
  '{"write":1,"action":"kill","at":"later"}',
  '{"reads":{"fault":"odd"}}',
  '{"reads":{"fault":"flip","key":"("}}',
  '{"delayMs":"1"}',
])('the plan %j - refused, a mistyped fault would test nothing', text => {
  expect(() => parseFaultPlan(text)).toThrow(expect.objectContaining({ code: 'CONFIG' }));
});

test('AISHELL_STORAGE_FAULTS - puts the plan into whatever storage is opened', async () => {
  const location = { kind: 'memory', name: randomUUID() } as const;
  const env = { AISHELL_STORAGE_FAULTS: '{"write":1,"action":"EACCES"}' };
  await expect(openStorage(location, env).put('a', body)).rejects.toMatchObject({ code: 'STORAGE_DENIED' });
  expect(await openStorage(location, {}).put('a', body)).toBe('created');
});
