import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test, vi } from 'vitest';
import { Keyring } from '../../../src/crypto/keyring.ts';
import {
  type FeedRequest,
  type LogFeeder,
  startLogFeeder,
} from '../../../src/operations/restore/log-feeder.ts';
import { logPath } from '../../../src/repository/layout.ts';
import { putLogFile, putLogPart } from '../../../src/repository/log-archive.ts';
import type { Repository } from '../../../src/repository/repository.ts';
import { openStorage } from '../../../src/storage/registry.ts';
import { type TemporaryDirectory, temporaryDirectory } from '../../support/temp.ts';

vi.setConfig({ testTimeout: 60_000 });

const owner = { instance: 'production', systemIdentifier: '7300000000000000001' };
const never = new AbortController().signal;

/** A repository on disk, as the feeder's threads open it themselves, with a pg_wal beside it. */
interface Archive extends TemporaryDirectory {
  readonly repository: Repository;
  readonly location: { readonly kind: 'local'; readonly path: string };
  readonly log: string;
  readonly contents: Map<string, Uint8Array>;
}

const nameOf = (index: number): string =>
  `0000000100000000${index.toString(16).toUpperCase().padStart(8, '0')}`;

async function archiveOf(files: number): Promise<Archive> {
  const directory = await temporaryDirectory();
  const location = { kind: 'local', path: join(directory.path, 'repository') } as const;
  const repository: Repository = {
    id: randomUUID(),
    storage: openStorage(location),
    keyring: new Keyring(new Map([[1, randomBytes(32)]])),
  };
  const contents = new Map<string, Uint8Array>();
  for (let index = 1; index <= files; index += 1) {
    const bytes = randomBytes(100_000 + index);
    contents.set(nameOf(index), bytes);
    await putLogFile(repository, { ...owner, name: nameOf(index), bytes, level: 3 });
  }
  const log = join(directory.path, 'pg_wal');
  await mkdir(log);
  return { ...directory, repository, location, log, contents };
}

/** A quarter of what may be ahead, so that four of them, beside the first four, fill it. */
const QUARTER = 64 * 1024 * 1024;

function feed(archive: Archive, request: Partial<FeedRequest> = {}): LogFeeder {
  return startLogFeeder(
    archive,
    {
      files: [...archive.contents.keys()].map(name => ({ name, as: name, sizeBytes: QUARTER })),
      log: owner,
      directory: archive.log,
      owner: null,
      workers: 2,
      reuseBehind: null,
      ...request,
    },
    never,
  );
}

/** More is then fed ahead, where a server waits for it. */
function slowStorage(): void {
  vi.stubEnv('AISHELL_STORAGE_FAULTS', JSON.stringify({ delayMs: 20 }));
}

const fed = (archive: Archive): string[] =>
  readdirSync(archive.log)
    .filter(name => !name.startsWith('aishell-feed'))
    .sort();

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

test('a log with a history and an unfinished segment - every file is there, whole, the history first', async () => {
  await using archive = await archiveOf(6);
  const history = Buffer.from('1\t0/5000000\tno recovery target specified\n');
  await putLogFile(archive.repository, { ...owner, name: '00000002.history', bytes: history, level: null });
  const [begun, rest] = [randomBytes(3000), randomBytes(5000)];
  // What tells how large the segment will be.
  begun.writeUInt32LE(1024 * 1024, 32);
  await putLogPart(archive.repository, { ...owner, segment: nameOf(7), from: 0, bytes: begun, level: 3 });
  await putLogPart(archive.repository, { ...owner, segment: nameOf(7), from: 3000, bytes: rest, level: 3 });
  const files = [
    ...[...archive.contents.keys()].map(name => ({ name, as: name })),
    { name: `${nameOf(7)}.partial`, as: nameOf(7) },
    { name: '00000002.history', as: '00000002.history' },
  ];
  await using feeder = feed(archive, { files });
  await feeder.firstFed;
  expect(existsSync(join(archive.log, '00000002.history'))).toBe(true);
  await feeder.allFed;
  for (const [name, bytes] of archive.contents) expect(readFileSync(join(archive.log, name))).toEqual(bytes);
  const unfinished = await readFile(join(archive.log, nameOf(7)));
  expect(unfinished.length).toBe(1024 * 1024);
  expect(unfinished.subarray(0, 8000)).toEqual(Buffer.concat([begun, rest]));
  expect(unfinished.subarray(8000).every(byte => byte === 0)).toBe(true);
  expect(await readFile(join(archive.log, '00000002.history'))).toEqual(history);
  expect(feeder.facts().files).toBe(8);
  expect(existsSync(join(archive.log, 'aishell-feed'))).toBe(false);
  expect(statSync(join(archive.log, nameOf(1))).mode & 0o777).toBe(0o600);
});

test('a long log - only so much lies ahead of the server, more comes as it moves on', async () => {
  await using archive = await archiveOf(20);
  await using feeder = feed(archive);
  await feeder.firstFed;
  await expect.poll(() => fed(archive).length, { timeout: 20_000 }).toBe(8);
  await sleep(300);
  expect(fed(archive)).toEqual([...archive.contents.keys()].slice(0, 8));
  feeder.replaying(nameOf(4));
  await expect.poll(() => fed(archive).length, { timeout: 20_000 }).toBe(11);
  // A server that goes back, or names a file of another timeline, takes nothing away.
  feeder.replaying(nameOf(2));
  feeder.replaying('000000090000000000000001');
  await sleep(200);
  expect(fed(archive).length).toBe(11);
  feeder.replaying(nameOf(20));
  await feeder.allFed;
  expect(fed(archive)).toEqual([...archive.contents.keys()]);
});

test('a server that does not show where it is - gets everything, after a while', async () => {
  await using archive = await archiveOf(12);
  await using feeder = feed(archive);
  await expect.poll(() => fed(archive).length, { timeout: 20_000 }).toBe(8);
  const now = vi.spyOn(performance, 'now');
  feeder.replaying(null);
  now.mockReturnValue(performance.now() + 11_000);
  feeder.replaying(null);
  now.mockRestore();
  await feeder.allFed;
  expect(fed(archive).length).toBe(12);
});

test('a file that is gone, a damaged one, a storage that does not answer - its own error, and nothing half', async () => {
  for (const [fault, code] of [
    ['missing', 'LOG_NOT_FOUND'],
    ['flip', 'CORRUPT'],
    ['truncate', 'CORRUPT'],
    ['UNREACHABLE', 'STORAGE_UNREACHABLE'],
  ] as const) {
    await using archive = await archiveOf(10);
    vi.stubEnv('AISHELL_STORAGE_FAULTS', JSON.stringify({ reads: { fault, key: nameOf(6) } }));
    await using feeder = feed(archive);
    await expect(feeder.allFed, fault).rejects.toMatchObject({ code });
    expect(existsSync(join(archive.log, nameOf(6)))).toBe(false);
    expect(existsSync(join(archive.log, 'aishell-feed'))).toBe(false);
    for (const name of fed(archive))
      expect(readFileSync(join(archive.log, name))).toEqual(archive.contents.get(name));
  }
});

test('the last file before the server must move on fails - it is told at once, the server may wait for that very file', async () => {
  await using archive = await archiveOf(12);
  vi.stubEnv('AISHELL_STORAGE_FAULTS', JSON.stringify({ reads: { fault: 'missing', key: nameOf(8) } }));
  await using feeder = feed(archive);
  await expect(feeder.allFed).rejects.toMatchObject({ code: 'LOG_NOT_FOUND' });
});

test('the recovery ends before everything is fed - nothing more comes, and nothing is left beside', async () => {
  await using archive = await archiveOf(12);
  vi.stubEnv('AISHELL_STORAGE_FAULTS', JSON.stringify({ delayMs: 50 }));
  const feeder = feed(archive);
  await feeder.firstFed;
  await feeder[Symbol.asyncDispose]();
  await expect(feeder.allFed).rejects.toMatchObject({ code: 'CANCELLED' });
  const there = fed(archive);
  await sleep(300);
  expect(fed(archive)).toEqual(there);
  expect(existsSync(join(archive.log, 'aishell-feed'))).toBe(false);
});

test('files that lie on the same disk - are linked, not fetched', async () => {
  await using archive = await archiveOf(3);
  const path = join(archive.path, 'kept');
  await writeFile(path, 'as it was');
  const { storage } = archive.repository;
  await storage.delete(logPath(owner, nameOf(2)));
  const files = [...archive.contents.keys()].map(name => ({
    name,
    as: name,
    ...(name === nameOf(2) ? { path } : {}),
  }));
  await using feeder = feed(archive, { files });
  await feeder.allFed;
  expect(statSync(join(archive.log, nameOf(2))).ino).toBe(statSync(path).ino);
  expect(readFileSync(join(archive.log, nameOf(3)))).toEqual(archive.contents.get(nameOf(3)));
});

test('a server that moves on - what it has replayed is written over, and comes back for one that begins again', async () => {
  await using archive = await archiveOf(30);
  slowStorage();
  const inode = (index: number): number => statSync(join(archive.log, nameOf(index))).ino;
  const all = (): number[] => fed(archive).map(name => Number.parseInt(name.slice(-2), 16));
  await using feeder = feed(archive, { reuseBehind: nameOf(4) });
  await expect.poll(() => fed(archive).length, { timeout: 20_000 }).toBe(8);
  const kept = join(archive.path, 'kept');
  await link(join(archive.log, nameOf(2)), kept);
  const first = inode(1);
  // The server has removed it by itself.
  await rm(join(archive.log, nameOf(3)));
  for (const at of [5, 9, 13]) {
    feeder.replaying(nameOf(at));
    await expect.poll(() => all().at(-1), { timeout: 20_000 }).toBe(at + 7);
  }
  // Four are more than eight behind: two were taken, one is somebody else's as well, one is gone.
  expect(all()).toEqual([5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
  expect(all().map(inode)).toContain(first);
  for (const name of fed(archive))
    expect(readFileSync(join(archive.log, name)), name).toEqual(archive.contents.get(name));
  expect(readFileSync(kept)).toEqual(archive.contents.get(nameOf(2)));

  expect([4, 5].map(index => feeder.lacks(nameOf(index)))).toEqual([true, false]);

  expect(await feeder.again(nameOf(4).replace('00000001', '00000007'))).toBe(true);
  expect(feeder.lacks(nameOf(4))).toBe(false);
  expect(all()).toEqual([4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
  // It has all but caught up with a slow storage, so twice as much may lie ahead: here, all there is.
  feeder.replaying(nameOf(19));
  await feeder.allFed;
  // From then on nothing is taken any more.
  expect(all()).toEqual(Array.from({ length: 27 }, (_, index) => index + 4));
  for (const name of fed(archive))
    expect(readFileSync(join(archive.log, name)), name).toEqual(archive.contents.get(name));
});

test('a server that reads its checkpoint before the log in front of it - finds all of that log', async () => {
  await using archive = await archiveOf(30);
  slowStorage();
  await using feeder = feed(archive, { reuseBehind: nameOf(12) });
  const all = (): string[] => [...archive.contents.keys()];
  await feeder.firstFed;
  // It waits for it, for which twice as much is fed ahead, reads it, and begins.
  feeder.replaying(nameOf(12).replace('00000001', '00000007'));
  await expect.poll(() => fed(archive), { timeout: 20_000 }).toEqual(all().slice(0, 27));
  feeder.replaying(nameOf(1));
  feeder.replaying(nameOf(12));
  await sleep(200);
  expect(fed(archive)).toEqual(all().slice(0, 27));
  feeder.replaying(nameOf(13));
  await expect.poll(() => fed(archive).at(-1), { timeout: 20_000 }).toBe(nameOf(28));
  expect(fed(archive)).toEqual(all().slice(1, 28));
});

test('no log at all - the server may start, and hears that there is no more', async () => {
  await using archive = await archiveOf(0);
  await using feeder = feed(archive);
  await feeder.firstFed;
  await feeder.allFed;
});
