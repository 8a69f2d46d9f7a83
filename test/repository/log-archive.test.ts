import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { logPath } from '../../src/repository/layout.ts';
import { getLogFile, listLogFiles, putLogFile } from '../../src/repository/log-archive.ts';
import { faultyStorage } from '../../src/storage/faulty/faulty-storage.ts';
import { collect, memoryRepository, overwrite } from './memory-repository.ts';

const owner = { instance: 'production', systemIdentifier: '7566129433051829306' };
const name = '000000010000000000000003';
const segment = new Uint8Array(3 * 1024 * 1024 + 77);
segment.set(randomBytes(5000), 1024 * 1024 - 2500);

test('a segment of several frames - read as it was, at every level, compressed in either way', async () => {
  for (const level of [null, 1, 3])
    for (const inThisThread of [false, true]) {
      const repository = memoryRepository();
      const file = { ...owner, name, bytes: segment, level };
      expect(await putLogFile(repository, { ...file, inThisThread })).toBe('stored');
      expect(Buffer.from((await getLogFile(repository, owner, name))!).equals(segment)).toBe(true);
      expect(await putLogFile(repository, { ...file, inThisThread: !inThisThread })).toBe('same');
    }
});

test('an empty file, a segment that is not there - nothing of both, told apart', async () => {
  const repository = memoryRepository();
  await putLogFile(repository, { ...owner, name: '00000002.history', bytes: new Uint8Array(0), level: 3 });
  expect(await getLogFile(repository, owner, '00000002.history')).toEqual(new Uint8Array(0));
  expect(await getLogFile(repository, owner, name)).toBeNull();
});

test('the same bytes again - same, even at another level; nothing is written', async () => {
  const repository = memoryRepository();
  await putLogFile(repository, { ...owner, name, bytes: segment, level: 3 });
  const stored = await repository.storage.get(logPath(owner, name));
  expect(await putLogFile(repository, { ...owner, name, bytes: segment, level: null })).toBe('same');
  expect(await repository.storage.get(logPath(owner, name))).toEqual(stored);
});

test('other bytes under a name that is taken - LOG_CONFLICT, nothing is overwritten', async () => {
  const repository = memoryRepository();
  await putLogFile(repository, { ...owner, name, bytes: segment, level: 3 });
  const stored = await repository.storage.get(logPath(owner, name));
  for (const at of [0, segment.length - 1]) {
    const bytes = segment.slice();
    bytes[at] = bytes[at]! ^ 1;
    await expect(putLogFile(repository, { ...owner, name, bytes, level: 3 })).rejects.toMatchObject({
      code: 'LOG_CONFLICT',
      details: { object: logPath(owner, name) },
    });
  }
  await expect(
    putLogFile(repository, { ...owner, name, bytes: segment.subarray(1), level: 3 }),
  ).rejects.toMatchObject({ code: 'LOG_CONFLICT' });
  expect(await repository.storage.get(logPath(owner, name))).toEqual(stored);
});

test('a name that is taken by a damaged object - CORRUPT: it is not said to be archived', async () => {
  const repository = memoryRepository();
  await putLogFile(repository, { ...owner, name, bytes: segment, level: 3 });
  const stored = (await repository.storage.get(logPath(owner, name)))!;
  await overwrite(repository, logPath(owner, name), stored.subarray(0, -1));
  await expect(putLogFile(repository, { ...owner, name, bytes: segment, level: 3 })).rejects.toMatchObject({
    code: 'CORRUPT',
  });
});

test('a storage that fails in the middle of a write - nothing is there, the same call succeeds then', async () => {
  const inner = memoryRepository();
  const repository = {
    ...inner,
    storage: faultyStorage(inner.storage, { write: 1, at: 'middle', action: 'ENOSPC' }),
  };
  await expect(putLogFile(repository, { ...owner, name, bytes: segment, level: 3 })).rejects.toMatchObject({
    code: 'STORAGE_FULL',
  });
  expect(await getLogFile(repository, owner, name)).toBeNull();
  expect(await putLogFile(repository, { ...owner, name, bytes: segment, level: 3 })).toBe('stored');
});

test('a write that was done and not answered - the next try finds the same bytes', async () => {
  const inner = memoryRepository();
  const repository = {
    ...inner,
    storage: faultyStorage(inner.storage, { write: 1, at: 'after', action: 'UNREACHABLE' }),
  };
  await expect(putLogFile(repository, { ...owner, name, bytes: segment, level: 3 })).rejects.toMatchObject({
    code: 'STORAGE_UNREACHABLE',
  });
  expect(await putLogFile(repository, { ...owner, name, bytes: segment, level: 3 })).toBe('same');
});

test('the list - in order of timeline and name, of one timeline, from a name on, of one system', async () => {
  const repository = memoryRepository();
  const names = [
    '000000010000000000000001',
    '000000010000000000000002',
    '000000010000000000000003.partial',
    '00000002.history',
    '000000020000000000000003',
    '0000000A0000000000000004',
  ];
  for (const each of [...names].reverse())
    await putLogFile(repository, { ...owner, name: each, bytes: new Uint8Array(9), level: null });
  await putLogFile(repository, {
    ...owner,
    systemIdentifier: '75661294330518293061',
    name: names[0]!,
    bytes: new Uint8Array(9),
    level: null,
  });
  const listed = async (range?: { timeline?: number; from?: string }): Promise<string[]> =>
    (await collect(listLogFiles(repository, owner, range))).map(each => each.name);
  expect(await listed()).toEqual(names);
  expect(await listed({ timeline: 10 })).toEqual(['0000000A0000000000000004']);
  expect(await listed({ timeline: 1, from: '000000010000000000000002' })).toEqual([
    '000000010000000000000002',
    '000000010000000000000003.partial',
  ]);
});
