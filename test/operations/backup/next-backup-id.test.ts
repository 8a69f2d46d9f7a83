import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { nextBackupId } from '../../../src/operations/backup/next-backup-id.ts';
import { manifestPath, newBackupId } from '../../../src/repository/layout.ts';
import { listBackupIds } from '../../../src/repository/manifest-reader.ts';
import { memoryRepository } from '../../repository/memory-repository.ts';

const instance = 'production';
const signal = AbortSignal.timeout(60_000);

test('backups that begin one after the other, many in a second - are listed in that order', async () => {
  const repository = memoryRepository();
  const ids: string[] = [];
  for (let count = 0; count < 12; count += 1) {
    const id = await nextBackupId({ repository, instance }, signal);
    await repository.storage.put(manifestPath(instance, id), new Uint8Array(1));
    ids.push(id);
  }
  expect(await listBackupIds(repository, instance)).toEqual(ids);
});

test('a newest backup of the future - is not waited for', async () => {
  const repository = memoryRepository();
  const future = newBackupId(new Date(Date.now() + 3_600_000), randomBytes(3));
  await repository.storage.put(manifestPath(instance, future), new Uint8Array(1));
  expect((await nextBackupId({ repository, instance }, signal)) < future).toBe(true);
});
