import { expect, test } from 'vitest';
import { parseLsn } from '../../../src/engines/postgres/lsn.ts';
import { chooseParent, type PresentServer } from '../../../src/operations/backup/choose-parent.ts';
import { packPath } from '../../../src/repository/layout.ts';
import { putLogFile } from '../../../src/repository/log-archive.ts';
import type { BackupFacts } from '../../../src/repository/manifest.ts';
import type { Repository } from '../../../src/repository/repository.ts';
import { memoryRepository, overwrite } from '../../repository/memory-repository.ts';
import { writeBackup } from '../../repository/write-backup.ts';

const instance = 'production';
const systemIdentifier = '7566129433051829306';
const signal = AbortSignal.timeout(120_000);

const server: PresentServer = {
  systemIdentifier,
  timeline: 1,
  startTime: '2025-10-27T10:00:00.000000Z',
  blockSize: 8192,
  relationSegmentBlocks: 131_072,
  walSegmentSize: 1024 * 1024,
  tablespaceVersionDirectory: 'PG_18_202506291',
  dataChecksums: true,
  walLogHints: false,
  lsn: parseLsn('0/9000000'),
};

let minute = 10;
async function backup(repository: Repository, facts: Partial<BackupFacts> = {}): Promise<BackupFacts> {
  const id = `backup_20251027_14${minute++}00_abc123`;
  const files = [{ path: 'base/5/16384', bytes: Buffer.from('x') }];
  return (await writeBackup(repository, files, { facts: { id, instance, ...facts } })).backup;
}

async function choose(
  repository: Repository,
  type: 'differential' | 'incremental' = 'incremental',
  more: Partial<PresentServer> = {},
): Promise<{ id: string | null; reason: string | null }> {
  const found = await chooseParent(
    { repository, instance },
    { type, server: { ...server, ...more } },
    signal,
  );
  return found.parent === null
    ? { id: null, reason: found.reason }
    : { id: found.parent.backup.id, reason: found.passedOver };
}

test('incremental and differential - the newest backup, the newest full one', async () => {
  const repository = memoryRepository();
  expect(await choose(repository)).toEqual({ id: null, reason: 'there is no backup yet' });
  const full = await backup(repository);
  const incremental = await backup(repository, { type: 'incremental' });
  expect(await choose(repository)).toEqual({ id: incremental.id, reason: null });
  expect(await choose(repository, 'differential')).toEqual({ id: full.id, reason: null });
});

test.for([
  ['another system', { systemIdentifier: '1' }, 'another database system'],
  ['another version', { tablespaceVersionDirectory: 'PG_17_202406281' }, 'another version'],
  ['another page size', { blockSize: 4096 }, 'another size'],
  ['another segment size', { walSegmentSize: 16 * 1024 * 1024 }, 'log segments of another size'],
  ['checksums turned off', { dataChecksums: false }, 'page checksums were turned off'],
  ['a server that went back', { lsn: parseLsn('0/2000100') }, 'put back to an older state'],
] as const)('%s - no parent, and why', async ([, change, words]) => {
  const repository = memoryRepository();
  await backup(repository);
  const found = await choose(repository, 'incremental', change);
  expect([found.id, found.reason]).toEqual([null, expect.stringContaining(words)]);
});

test('a timeline that left before the end of the newest backup - an older one, that lies on its way', async () => {
  const repository = memoryRepository();
  const older = await backup(repository);
  const lost = await backup(repository, { startLsn: '0/4000028', stopLsn: '0/5000000' });
  expect((await choose(repository)).id).toBe(lost.id);
  expect(await choose(repository, 'incremental', { timeline: 2 })).toEqual({
    id: null,
    reason: 'it is not known where timeline 2 of the server began',
  });
  const history = Buffer.from('1\t0/4800000\tbefore the end\n');
  await putLogFile(repository, {
    instance,
    systemIdentifier,
    name: '00000002.history',
    bytes: history,
    level: 1,
  });
  const found = await choose(repository, 'incremental', { timeline: 2 });
  expect(found.id).toBe(older.id);
  expect(found.reason).toContain(`restored to 0/4800000 since, and backup ${lost.id} ends behind that`);
  const elsewhere = await backup(repository, { timeline: 3 });
  expect((await choose(repository, 'incremental', { timeline: 2 })).reason).toContain(
    `since backup ${elsewhere.id}, which is of timeline 3`,
  );
});

test('a backup with damaged pages, a missing or a short pack, an unknown key - a full backup, and no older one', async () => {
  const repository = memoryRepository();
  await backup(repository);
  const bad = await backup(repository, { damagedPages: [{ path: 'base/5/1', block: 3 }] });
  expect(await choose(repository)).toEqual({
    id: null,
    reason: `backup ${bad.id} has pages that were damaged on the server's disk`,
  });
  const { backup: good, packs } = await writeBackup(
    repository,
    [{ path: 'base/5/16384', bytes: Buffer.from('y') }],
    { facts: { id: 'backup_20251028_140000_abc123', instance } },
  );
  expect((await choose(repository)).id).toBe(good.id);
  const path = packPath(instance, good.id, packs[0]!.id);
  const bytes = (await repository.storage.get(path))!;
  for (const [wrong, words] of [
    [bytes.subarray(1), `is ${bytes.length - 1} bytes long, not ${bytes.length}`],
    [null, 'missing'],
  ] as const) {
    if (wrong === null) await repository.storage.delete(path);
    else await overwrite(repository, path, wrong);
    const found = await choose(repository);
    expect([found.id, found.reason]).toEqual([null, expect.stringContaining(words)]);
  }
});

test('a manifest that does not open - is passed over', async () => {
  const repository = memoryRepository();
  const older = await backup(repository);
  const damaged = await backup(repository);
  const path = `instances/${instance}/backups/${damaged.id}`;
  await overwrite(repository, path, (await repository.storage.get(path))!.subarray(0, 200));
  expect(await choose(repository)).toEqual({ id: older.id, reason: `backup ${damaged.id} is damaged` });
});
