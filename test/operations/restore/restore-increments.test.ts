import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { restoreFiles } from '../../../src/operations/restore/restore-files.ts';
import { manifestLines, openManifest } from '../../../src/repository/manifest-reader.ts';
import type { Repository } from '../../../src/repository/repository.ts';
import { incrementalRepository } from '../../repository/incremental-repository.ts';
import { temporaryDirectory } from '../../support/temp.ts';

// Enough for a machine that is busy with other tests.
vi.setConfig({ testTimeout: 60_000 });

const options = { signal: new AbortController().signal, onEvent: () => undefined };

test('the newest of many incremental backups - every file as it was last, from frames of all of them', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'repository');
  const { repository, newest, files } = await incrementalRepository(path);
  const target = join(directory.path, 'target');
  const manifest = (await openManifest(repository, newest))!;
  expect(new Set(manifest.packs.map(pack => pack.backup)).size).toBeGreaterThan(5);
  expect(await piecesOfLargest(repository, manifest)).toBeGreaterThan(20);
  await restoreFiles(
    { repository, location: { kind: 'local', path } },
    {
      manifest,
      placeOf: line =>
        line.t === 'dir' && line.p === 'base' ? target : join(target, line.p.slice('base'.length)),
      owner: null,
      workers: 2,
    },
    options,
  );
  for (const [name, bytes] of files)
    expect(readFileSync(join(target, name.slice('base'.length))).equals(bytes), name).toBe(true);
});

async function piecesOfLargest(
  repository: Repository,
  manifest: NonNullable<Awaited<ReturnType<typeof openManifest>>>,
): Promise<number> {
  let most = 0;
  for await (const line of manifestLines(repository, manifest))
    if (line.t === 'file') most = Math.max(most, line.c.length);
  return most;
}
