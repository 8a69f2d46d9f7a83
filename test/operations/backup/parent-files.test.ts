import { expect, test } from 'vitest';
import { openParentFiles } from '../../../src/operations/backup/parent-files.ts';
import { openManifest } from '../../../src/repository/manifest-reader.ts';
import { memoryRepository } from '../../repository/memory-repository.ts';
import { writeBackup } from '../../repository/write-backup.ts';

test('the files of a manifest - are found by their paths, whatever their number; others are not', async () => {
  const repository = memoryRepository();
  const files = Array.from({ length: 5000 }, (_, n) => ({
    path: `base/5/${n + 16_384}`,
    bytes: Buffer.from(`content ${n}`),
  }));
  const { backup } = await writeBackup(repository, [
    { path: 'base', directory: true },
    ...files,
    { path: 'postgresql.conf', bytes: Buffer.from('x'), source: '/etc/postgresql.conf' },
  ]);
  const manifest = await openManifest(repository, backup);
  const parent = await openParentFiles(repository, manifest!, AbortSignal.timeout(60_000));
  try {
    for (const n of [0, 1, 2500, 4998, 4999])
      expect(await parent.find(`base/5/${n + 16_384}`)).toMatchObject({
        p: `base/5/${n + 16_384}`,
        s: `content ${n}`.length,
      });
    for (const path of ['base', 'base/5/1', 'postgresql.conf', ''])
      expect(await parent.find(path)).toBeNull();
  } finally {
    await parent.close();
  }
});
