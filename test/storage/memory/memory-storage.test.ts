import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { memoryStorage } from '../../../src/storage/memory/memory-storage.ts';
import { storageContract } from '../storage-contract.ts';

storageContract('memory', async () => ({
  storage: memoryStorage(randomUUID()),
  close: async () => undefined,
}));

test('the same name opened twice - the same objects; another name - others', async () => {
  const name = randomUUID();
  await memoryStorage(name).put('a', new Uint8Array([1]));
  expect(await memoryStorage(name).get('a')).toEqual(new Uint8Array([1]));
  expect(await memoryStorage(`${name}-other`).get('a')).toBeNull();
});
