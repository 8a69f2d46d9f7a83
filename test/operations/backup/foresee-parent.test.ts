import { expect, test } from 'vitest';
import { foreseeParent } from '../../../src/operations/backup/foresee-parent.ts';
import { manifestPath } from '../../../src/repository/layout.ts';
import { memoryRepository, overwrite } from '../../repository/memory-repository.ts';
import { writeBackup } from '../../repository/write-backup.ts';

const instance = 'production';
const signal = AbortSignal.timeout(60_000);
const [full, newer] = ['backup_20251027_140000_abc123', 'backup_20251027_150000_abc123'] as const;

async function backups(): Promise<ReturnType<typeof memoryRepository>> {
  const repository = memoryRepository();
  for (const [id, type] of [
    [full, 'full'],
    [newer, 'incremental'],
  ] as const)
    await writeBackup(repository, [{ path: id, bytes: Buffer.from('x') }], { facts: { id, type, instance } });
  return repository;
}

function foresee(repository: Awaited<ReturnType<typeof backups>>, type: 'differential' | 'incremental') {
  const server = { systemIdentifier: '7566129433051829306', timeline: 1, walSegmentSize: 1024 * 1024 };
  return foreseeParent({ repository, instance }, { type, server }, signal);
}

test('the newest backup, for a differential one the newest full one - is read, and handed out for its id alone', async () => {
  for (const [type, id, other] of [
    ['incremental', newer, full],
    ['differential', full, newer],
  ] as const) {
    await using foreseen = foresee(await backups(), type);
    expect((await foreseen.manifestOf(id))?.backup.id).toBe(id);
    expect([await foreseen.manifestOf(other), await foreseen.filesOf(other)]).toEqual([null, null]);
    const files = await foreseen.filesOf(id);
    expect([files?.find(id)?.s, files?.find(other)]).toEqual([1, null]);
    expect(await foreseen.filesOf(id)).toBeNull();
    await files?.close();
    // There is no log.
    expect([await foreseen.changesOf(id, 1), await foreseen.changesOf(id, 2)]).toEqual([null, null]);
  }
});

test('no backup, a damaged one - nothing is foreseen, and nothing fails', async () => {
  const repository = await backups();
  const stored = await repository.storage.get(manifestPath(instance, newer));
  await overwrite(repository, manifestPath(instance, newer), stored!.subarray(0, stored!.length - 20));
  for (const each of [memoryRepository(), repository]) {
    await using foreseen = foresee(each, 'incremental');
    expect(await foreseen.manifestOf(newer)).toBeNull();
    expect(await foreseen.filesOf(newer)).toBeNull();
  }
});
