import { chmod, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { BackupList } from '../../src/operations/backup/list-backups.ts';
import { type CliOptions, runCli } from '../support/cli.ts';
import {
  type CliFailure,
  failureOf,
  protect,
  resultOf,
  shell,
  type TestInstance,
} from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

let cluster: TestCluster;
let instance: TestInstance;

beforeAll(async () => {
  cluster = await startTestCluster({ version: 18 });
  instance = await protect(cluster);
  await cluster.query('create table t as select generate_series(1, 1000) n');
  await cluster.query('create role weak login');
  await instance.backup();
});

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
});

/** What is on disk of the instance and its repository, by name, and which server runs. */
async function traces(tries = 100): Promise<unknown> {
  // What archive_command is about to store is there under another name for a moment; what stays so is left behind.
  const isStoring = (await readdir(instance.repository)).some(name => name.startsWith('.tmp-'));
  if (isStoring && tries > 0) {
    await sleep(50);
    return await traces(tries - 1);
  }
  const repository = (await readdir(instance.repository, { recursive: true })).filter(
    // The log and what is known of it may grow; nothing else may change.
    name => !/\/(log|summaries|catalogs)(\/|$)/.test(name),
  );
  return {
    repository: repository.sort(),
    beside: (await readdir(cluster.directory)).sort(),
    pid: await cluster.pid(),
  };
}

/** One clear sentence, the next step, and nothing changed. */
async function refused(args: readonly string[], options?: CliOptions): Promise<CliFailure> {
  const before = await traces();
  const failure = failureOf(await instance.run(args, options));
  expect(await traces()).toEqual(before);
  expectReadable(failure);
  return failure;
}

function expectReadable({ message, hint }: CliFailure): void {
  expect(message).toMatch(/^[^A-Z\n].{10,300}$/);
  expect(message).not.toMatch(/\.$|undefined|\[object|Error:| at .*\.ts/);
  expect(hint).toMatch(/^[A-Z`].{10,}/);
}

/** The instance's configuration with other words in it, as a file beside. */
async function configWith(change: (text: string) => string): Promise<string> {
  const file = instance.path('other.yaml');
  const text = await readFile(instance.configFile, 'utf8');
  const changed = change(text);
  expect(changed).not.toBe(text);
  await writeFile(file, changed);
  return file;
}

/** As `refused`, with another configuration. */
async function refusedWith(
  change: (text: string) => string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<CliFailure> {
  const file = await configWith(change);
  const before = await traces();
  const failure = failureOf(await runCli([...args, '--config', file, '--json'], { env }));
  expect(await traces()).toEqual(before);
  expectReadable(failure);
  await rm(file);
  return failure;
}

const keyLine = /file: .*aishell\.key/;

test('another passphrase, none, another key file - exit 9 or 2, and which key it was', async () => {
  const usePassphrase = (text: string): string => text.replace(keyLine, 'passphrase: env:WORD');
  const list = ['backup', 'list'];
  expect(await refusedWith(usePassphrase, list, { WORD: 'not-the-one' })).toMatchObject({
    exitCode: 9,
    code: 'KEY_WRONG',
  });
  const unset = await refusedWith(usePassphrase, list);
  expect(unset).toMatchObject({ exitCode: 2, code: 'SECRET_UNAVAILABLE' });
  expect(unset.message).toContain('WORD');
  const missing = await refusedWith(text => text.replace(keyLine, 'file: /nonexistent/aishell.key'), list);
  expect(missing).toMatchObject({ exitCode: 2 });
  expect(missing.message).toContain('/nonexistent/aishell.key');
});

test('no repository there, no instance of that name, no configuration - exit 6 and 2', async () => {
  const elsewhere = await refusedWith(
    text => text.replace(/storage: .*/, 'storage: /tmp'),
    ['backup', 'list'],
  );
  expect(elsewhere).toMatchObject({ exitCode: 6, code: 'REPOSITORY_NOT_FOUND' });
  expect(elsewhere.hint).toContain('aishell backup init');
  const unknown = await refused(['backup', 'list', '--instance', 'another']);
  expect(unknown).toMatchObject({ code: 'INSTANCE_NOT_FOUND', exitCode: 6 });
  expect(`${unknown.message} ${unknown.hint}`).toContain('shop');
  const none = failureOf(await runCli(['backup', 'list', '--json', '--config', instance.path('no.yaml')]));
  expect(none).toMatchObject({ exitCode: 2, code: 'CONFIG' });
  expectReadable(none);
});

test('the server is down - exit 8, and where it was looked for', async () => {
  const down = await refusedWith(
    text => text.replace(/127\.0\.0\.1:\d+/, '127.0.0.1:1'),
    ['backup', 'create'],
  );
  expect(down).toMatchObject({ exitCode: 8, code: 'DATABASE_UNREACHABLE' });
  expect(down.message).toContain('127.0.0.1');
});

test('a role without the rights - exit 8, and the statement that gives them', async () => {
  const denied = await refusedWith(text => text.replace('postgres@', 'weak@'), ['backup', 'create']);
  expect(denied).toMatchObject({ exitCode: 8, code: 'DATABASE_DENIED' });
  expect(denied.hint).toMatch(/GRANT|superuser/);
});

test('a repository that may not be written - exit 8, nothing half is listed', async () => {
  const backups = join(instance.repository, 'instances/shop/packs');
  await chmod(backups, 0o500);
  try {
    expect(await refused(['backup', 'create'])).toMatchObject({ exitCode: 8, code: 'STORAGE_DENIED' });
  } finally {
    await chmod(backups, 0o700);
  }
});

test('the storage is full - exit 8, nothing half is listed, and the next run succeeds', async () => {
  const faults = JSON.stringify({ write: 1, lasting: true, action: 'ENOSPC' });
  const full = failureOf(
    await instance.run(['backup', 'create'], { env: { AISHELL_STORAGE_FAULTS: faults } }),
  );
  expect(full).toMatchObject({ exitCode: 8, code: 'STORAGE_FULL' });
  expectReadable(full);
  const listed = resultOf<BackupList>(await instance.run(['backup', 'list']));
  expect(listed.backups.length).toBe(1);
});

test('a target that is not empty, or where no directory can be - exit 4', async () => {
  const target = instance.path('full');
  await mkdir(target);
  await writeFile(join(target, 'precious.txt'), 'mine');
  const full = await refused(['backup', 'restore', '--latest', '--target', target]);
  expect(full).toMatchObject({ exitCode: 4, code: 'TARGET_NOT_EMPTY' });
  expect(full.hint).toContain('precious.txt');
  const file = await refused(['backup', 'restore', '--latest', '--target', join(target, 'precious.txt')]);
  expect(file).toMatchObject({ exitCode: 4, code: 'TARGET_UNUSABLE' });
  const orphan = await refused(['backup', 'restore', '--latest', '--target', instance.path('no/such/place')]);
  expect(orphan).toMatchObject({ exitCode: 4, code: 'TARGET_UNUSABLE' });
  expect(await readFile(join(target, 'precious.txt'), 'utf8')).toBe('mine');
  await rm(target, { recursive: true });
});

test('a server runs in the target - exit 4, and it runs on', async () => {
  await using other = await startTestCluster({ version: 16 });
  const pid = await other.pid();
  const running = await refused(['backup', 'restore', '--latest', '--target', other.dataDirectory]);
  expect(running).toMatchObject({ exitCode: 4, code: 'TARGET_RUNNING' });
  expect(await other.pid()).toBe(pid);
  await other.query('select 1');
});

test("production's own directory, one in it or around it, a link to it, the repository - exit 4", async () => {
  const link = instance.path('innocent');
  await symlink(cluster.dataDirectory, link);
  const places = [
    cluster.dataDirectory,
    join(cluster.dataDirectory, 'base'),
    join(cluster.dataDirectory, 'copy'),
    cluster.directory,
    link,
    join(link, 'copy'),
    instance.repository,
    join(instance.repository, 'copy'),
  ];
  for (const target of places) {
    const refusal = await refused(['backup', 'restore', '--latest', '--target', target]);
    expect([target, refusal.exitCode, refusal.code]).toEqual([target, 4, 'TARGET_UNUSABLE']);
  }
  await rm(link);
});

test('several targets, none, nonsense - exit 2 or 4, with what is accepted', async () => {
  const restore = ['backup', 'restore', '--target', instance.path('never')];
  expect(await refused(restore)).toMatchObject({ exitCode: 2, code: 'USAGE' });
  expect(await refused([...restore, '--latest', '--xid', '800'])).toMatchObject({
    exitCode: 2,
    code: 'USAGE',
  });
  expect(await refused([...restore, '--lsn', 'zero'])).toMatchObject({ exitCode: 2, code: 'USAGE' });
  expect(await refused([...restore, '--point-in-time', '32.13.2025'])).toMatchObject({
    exitCode: 4,
    code: 'TIME_AMBIGUOUS',
  });
  expect(await refused([...restore, '--backup-id', 'nightly'])).toMatchObject({
    exitCode: 6,
    code: 'BACKUP_NOT_FOUND',
  });
  expect(await refused([...restore, '--latest', '--timeline', '7'])).toMatchObject({
    exitCode: 6,
    code: 'LOG_NOT_FOUND',
  });
});

test('another database under the same name - refused by backup, archive and restore; the first stays whole', async () => {
  await using other = await startTestCluster({ version: 18 });
  const foreign = (text: string): string =>
    text.replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${other.connection.port}`);
  expect(await refusedWith(foreign, ['backup', 'create'])).toMatchObject({
    code: 'SYSTEM_MISMATCH',
    exitCode: 4,
  });
  expect(await refusedWith(foreign, ['backup', 'restore', '--latest', '--dry-run'])).toMatchObject({
    code: 'SYSTEM_MISMATCH',
    exitCode: 4,
  });
  const [row] = await other.query<{ name: string }>('select pg_walfile_name(pg_switch_wal()) as name');
  const segment = join(other.dataDirectory, 'pg_wal', row!.name);
  const archived = await instance.archivedLog();
  expect(await refused(['backup', 'wal-archive', segment])).toMatchObject({
    code: 'SYSTEM_MISMATCH',
    exitCode: 4,
  });
  expect(await instance.archivedLog()).toEqual(archived);
  expect((await shell(cluster, `test -r '${segment}'`)).exitCode).toBe(0);
});
