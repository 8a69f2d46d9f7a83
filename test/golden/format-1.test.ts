import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { parseKeyFile } from '../../src/crypto/key-slots.ts';
import { listBackups } from '../../src/operations/backup/list-backups.ts';
import type { InstanceContext } from '../../src/operations/instance-context.ts';
import { CONFIG_FOLDER, placeOf } from '../../src/operations/restore/assemble-directory.ts';
import { startLogFeeder } from '../../src/operations/restore/log-feeder.ts';
import { restoreFiles } from '../../src/operations/restore/restore-files.ts';
import { verifyBackups } from '../../src/operations/verify/verify-backups.ts';
import { getLogFile } from '../../src/repository/log-archive.ts';
import { manifestLines, openManifest } from '../../src/repository/manifest-reader.ts';
import { openRepository, type Repository } from '../../src/repository/repository.ts';
import { openStorage } from '../../src/storage/registry.ts';
import { temporaryDirectory } from '../support/temp.ts';
import { goldenRepository } from './golden-repository.ts';

// Enough for a machine that is busy with other tests.
vi.setConfig({ testTimeout: 60_000 });

const golden = goldenRepository(1);
const backup = golden.backups[0]!;
const location = { kind: 'local', path: golden.path } as const;
const options = { signal: new AbortController().signal, onEvent: () => undefined };

function openWithKeyFile(): Promise<Repository> {
  return openRepository(openStorage(location), parseKeyFile(golden.key, 'aishell.key'));
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

test('its passphrase, composed or decomposed, and its key file - open the same repository', async () => {
  const storage = openStorage(location);
  const byFile = await openWithKeyFile();
  for (const form of ['NFC', 'NFD'] as const) {
    const passphrase = golden.passphrase.normalize(form);
    const opened = await openRepository(storage, { kind: 'passphrase', passphrase });
    expect(opened.id).toBe(golden.repositoryId);
    expect(opened.keyring.toWorker()).toEqual(byFile.keyring.toWorker());
  }
});

test('restored - every file byte by byte in its place, with its mode, and the log beside', async () => {
  await using directory = await temporaryDirectory();
  const repository = await openWithKeyFile();
  const manifest = (await openManifest(repository, { instance: golden.instance, id: backup.id }))!;
  const layout = {
    dataDirectory: join(directory.path, 'main'),
    tablespaces: new Map([[16400, join(directory.path, 'archive')]]),
  };
  await mkdir(layout.dataDirectory);
  const names = Object.keys(backup.log);
  const done = await restoreFiles(
    { repository, location },
    {
      manifest,
      placeOf: line =>
        line.t === 'config' ? join(layout.dataDirectory, CONFIG_FOLDER, line.p) : placeOf(layout, line.p),
      owner: null,
      workers: 2,
    },
    options,
  );
  const { instance, systemIdentifier } = manifest.backup;
  await using feeder = startLogFeeder(
    { repository, location },
    {
      files: names.map(name => ({ name, as: name, sizeBytes: 1024 * 1024 })),
      log: { instance, systemIdentifier },
      directory: join(layout.dataDirectory, 'pg_wal'),
      owner: null,
      workers: 2,
      reuseBehind: null,
    },
    options.signal,
  );
  await feeder.allFed;
  const places = {
    ...byPlace(backup.files, path => placeOf(layout, path)!),
    ...byPlace(backup.config, path => join(layout.dataDirectory, CONFIG_FOLDER, path)),
    ...byPlace(backup.log, path => join(layout.dataDirectory, 'pg_wal', path)),
  };
  for (const [path, facts] of Object.entries(places)) {
    const bytes = readFileSync(path);
    const mode = statSync(path).mode & 0o777;
    expect({ size: bytes.length, sha256: sha256(bytes), mode }, path).toEqual({
      size: facts.size,
      sha256: facts.sha256,
      mode: facts.mode,
    });
  }
  for (const path of Object.keys(backup.directories))
    expect(statSync(placeOf(layout, path)!).isDirectory()).toBe(true);
  expect(done.files).toBe(Object.keys(backup.files).length + Object.keys(backup.config).length);
});

test('its log files - read as they were', async () => {
  const repository = await openWithKeyFile();
  const manifest = (await openManifest(repository, { instance: golden.instance, id: backup.id }))!;
  const { systemIdentifier } = manifest.backup;
  for (const [name, facts] of Object.entries(backup.log)) {
    const bytes = await getLogFile(repository, { instance: golden.instance, systemIdentifier }, name);
    expect({ size: bytes?.length, sha256: sha256(bytes!) }, name).toEqual({
      size: facts.size,
      sha256: facts.sha256,
    });
  }
});

test('its manifest - the lines of all files, configuration from outside with where it lay', async () => {
  const repository = await openWithKeyFile();
  const manifest = (await openManifest(repository, { instance: golden.instance, id: backup.id }))!;
  const sources: Record<string, string> = {};
  const paths: string[] = [];
  for await (const line of manifestLines(repository, manifest)) {
    if (line.t === 'config') sources[line.p] = line.source;
    else paths.push(line.p);
  }
  expect(paths).toEqual([...Object.keys(backup.directories), ...Object.keys(backup.files)]);
  expect(sources).toEqual(
    Object.fromEntries(Object.entries(backup.config).map(([path, { source }]) => [path, source])),
  );
});

test('verified - every object is as it was written, and the list shows the backup', async () => {
  const context: InstanceContext = {
    instance: golden.instance,
    repository: await openWithKeyFile(),
    location,
    connection: { host: '127.0.0.1', port: 1, user: 'nobody', database: 'postgres' },
    dataDirectory: null,
    binaries: null,
    service: { kind: 'auto' },
    level: 3,
    workers: 1,
    backupType: 'full',
    toolVersion: 'test',
    recoveryTimeObjectiveSeconds: null,
    stateDirectory: null,
  };
  expect(await verifyBackups(context, { backupId: null }, options)).toMatchObject({
    problems: [],
    logGaps: [],
    logFiles: Object.keys(backup.log).length,
    keySlots: 2,
    backups: [{ id: backup.id, packs: backup.packs, damaged: false }],
  });
  const { backups } = await listBackups(context, options.signal);
  expect(backups.map(each => [each.id, each.status, each.backup?.name])).toEqual([
    [backup.id, 'valid', 'before-migration'],
  ]);
});

function byPlace<T>(
  entries: Readonly<Record<string, T>>,
  placed: (path: string) => string,
): Readonly<Record<string, T>> {
  return Object.fromEntries(Object.entries(entries).map(([path, facts]) => [placed(path), facts]));
}
