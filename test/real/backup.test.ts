import { chown, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { relationOf } from '../../src/engines/postgres/data-files-names.ts';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import { pageLsn } from '../../src/engines/postgres/page-header.ts';
import type { CreateBackupResult } from '../../src/operations/backup/create-backup.ts';
import type { BackupList } from '../../src/operations/backup/list-backups.ts';
import type { RestoreReport } from '../../src/operations/restore/restore-report.ts';
import { filesOf } from '../support/backup-content.ts';
import type { CliResult } from '../support/cli.ts';
import { failureOf, openCopy, protect, resultOf, shell, type TestInstance } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { loadTraffic } from '../support/traffic.ts';

/** Done, but something needs attention: exit code 3. */
function withProblems<T = CreateBackupResult>(done: CliResult): T {
  expect(done.exitCode, `${done.stdout}\n${done.stderr}`).toBe(3);
  return done.json.at(-1)?.result as T;
}

async function listed(instance: TestInstance): Promise<BackupList> {
  return resultOf<BackupList>(await instance.run(['backup', 'list']));
}

test('archive_mode off, writers at work - exit 3, and the backup carries the log to its own end', async () => {
  await using cluster = await startTestCluster({ version: 16 });
  const instance = await protect(cluster, { archiving: false });
  const traffic = await loadTraffic(cluster, { clients: 2 });
  await traffic.progress(50);
  const made = withProblems(await instance.run(['backup', 'create']));
  const [end] = await cluster.query<{ time: string }>('select clock_timestamp()::text as time');
  await traffic.progress(50);
  await traffic.stop();
  expect(made.backup).toMatchObject({ logIncluded: true, logArchived: false });
  expect(made.problems.join()).toContain('log archiving is off');
  for (const target of [['--latest'], ['--backup-id', made.backup!.id]]) {
    const report = await instance.restore([...target, '--target', instance.path(`copy${target[0]}`)]);
    await using copy = await openCopy(cluster, report);
    const client = await copy.connect();
    const { rows } = await client.query(`select
      (select sum(balance) from accounts) - 10000000 = (select sum(delta) from history) as balanced,
      (select count(*) from history) = (select count(*) from orders) as paired,
      (select count(*) from orders) >= 50 as there`);
    expect(rows).toEqual([{ balanced: true, paired: true, there: true }]);
  }
  const later = ['--point-in-time', end!.time, '--target', instance.path('never')];
  const refused = failureOf(await instance.run(['backup', 'restore', ...later]));
  expect(refused).toMatchObject({ exitCode: 4, code: 'TARGET_UNREACHABLE' });
  expect(refused.hint).toContain(`--backup-id ${made.backup!.id}`);
});

test("a page that is damaged on the server's own disk - exit 3, named, kept as it is, and restored all the same", async () => {
  await using cluster = await startTestCluster({ version: 15 });
  const instance = await protect(cluster);
  await cluster.query(
    "create table t as select n, repeat('x', 100) as filler from generate_series(1, 5000) n",
  );
  await cluster.query('create extension amcheck');
  await cluster.query('checkpoint');
  const [row] = await cluster.query<{ path: string }>("select pg_relation_filepath('t') as path");
  await damage(join(cluster.dataDirectory, row!.path), 3 * 8192 + 4000);
  const made = withProblems(await instance.run(['backup', 'create']));
  expect(made.backup!.damagedPages).toMatchObject([{ path: row!.path, block: 3 }]);
  expect(made.problems.join()).toContain(`block 3 of ${row!.path}`);
  // What was damaged before is no reason to refuse all the rest, and is said again.
  const restored = await instance.run(['backup', 'restore', '--latest', '--target', instance.path('copy')]);
  const report = withProblems<RestoreReport>(restored);
  expect(report.problems[0]).toContain(`block 3 of ${row!.path}`);
  await using copy = await openCopy(cluster, report);
  const client = await copy.connect();
  await expect(client.query('select count(*) from t')).rejects.toThrow('invalid page in block 3');
  await client.query('set zero_damaged_pages = on');
  expect(Number((await client.query('select count(*) from t')).rows[0].count)).toBeGreaterThan(4800);
});

async function damage(path: string, offset: number): Promise<void> {
  await using file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, offset);
  byte[0] = byte[0]! ^ 0x10;
  await file.write(byte, 0, 1, offset);
}

/** As on Debian: the configuration in a directory of its own, which names the data directory and more of its places. */
async function moveConfiguration(cluster: TestCluster): Promise<string> {
  const outside = join(cluster.directory, 'etc');
  const data = cluster.dataDirectory;
  await cluster.stop();
  for (const name of ['', 'conf.d', 'log']) await mkdir(join(outside, name));
  const text = await readFile(join(data, 'postgresql.conf'), 'utf8');
  const places = `data_directory = '${data}'
hba_file = '${outside}/pg_hba.conf'
ident_file = '${outside}/pg_ident.conf'
external_pid_file = '${outside}/server.pid'
log_directory = '${outside}/log'
logging_collector = on
include_dir = 'conf.d'
include '${outside}/more.conf'
`;
  await writeFile(join(outside, 'postgresql.conf'), `${text}\n${places}`);
  await writeFile(join(outside, 'conf.d/site.conf'), 'work_mem = 5555kB\n');
  await writeFile(join(outside, 'more.conf'), `external_pid_file = '${outside}/more.pid'\n`);
  for (const name of ['pg_hba.conf', 'pg_ident.conf']) await rename(join(data, name), join(outside, name));
  await rm(join(data, 'postgresql.conf'));
  const { user } = cluster;
  for (const name of ['', ...(await readdir(outside, { recursive: true }))]) {
    if (user !== null) await chown(join(outside, name), user.uid, user.gid);
  }
  const pgCtl = join(cluster.binaries.binDirectory, 'pg_ctl');
  const options = `-c config_file=${outside}/postgresql.conf`;
  const started = await shell(
    cluster,
    `'${pgCtl}' -D '${data}' -l '${cluster.logFile}' -w -o '${options}' start`,
  );
  expect(started.exitCode, started.output).toBe(0);
  return outside;
}

async function contents(directory: string): Promise<Record<string, string>> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name));
  return Object.fromEntries(
    await Promise.all(files.sort().map(async file => [file, await readFile(file, 'utf8')])),
  );
}

test("configuration outside the data directory - kept, and a copy touches none of production's places", async () => {
  await using cluster = await startTestCluster({ version: 18 });
  const instance = await protect(cluster);
  const outside = await moveConfiguration(cluster);
  await cluster.query('create table t as select generate_series(1, 1000) n');
  await instance.backup();
  const [doomed] = await cluster.query<{ xid: string }>(
    'with gone as (delete from t returning 1) select pg_current_xact_id()::text as xid, count(*) from gone',
  );
  const before = await contents(outside);
  const report = await instance.restore(['--xid', doomed!.xid, '--target', instance.path('copy')]);
  {
    await using copy = await openCopy(cluster, report);
    const client = await copy.connect();
    const { rows } = await client.query<{ name: string; setting: string }>(
      `select name, setting from pg_settings where name in ('data_directory', 'config_file', 'hba_file', 'ident_file',
        'external_pid_file', 'log_directory', 'archive_mode', 'work_mem')`,
    );
    const settings = Object.fromEntries(rows.map(row => [row.name, row.setting]));
    for (const [name, setting] of Object.entries(settings))
      expect([name, setting.includes(outside)]).toEqual([name, false]);
    expect(settings).toMatchObject({
      archive_mode: 'off',
      work_mem: '5555',
      data_directory: instance.path('copy'),
    });
    expect((await client.query('select count(*)::int as rows from t')).rows).toEqual([{ rows: 1000 }]);
    expect(await contents(outside)).toEqual(before);
  }
  // In place the live configuration stays where it is, and the server is started with it again.
  await instance.restore(['--xid', doomed!.xid]);
  expect(await cluster.query('select count(*)::int as rows from t')).toEqual([{ rows: 1000 }]);
  expect(await cluster.query('show config_file')).toEqual([{ config_file: `${outside}/postgresql.conf` }]);
  const names = await readdir(cluster.dataDirectory);
  expect(names.filter(name => /^aishell-config|postgresql\.conf$/.test(name))).toEqual([]);
});

test('two backups at once - both succeed, and both can be restored', async () => {
  await using cluster = await startTestCluster({ version: 14 });
  const instance = await protect(cluster);
  await cluster.query('create table t as select generate_series(1, 20000) n');
  const made = await Promise.all([instance.backup(['--name', 'one']), instance.backup(['--name', 'two'])]);
  expect(made[0].backup!.id).not.toBe(made[1].backup!.id);
  const { backups } = await listed(instance);
  expect(backups.map(each => each.status)).toEqual(['valid', 'valid']);
  for (const name of ['one', 'two']) {
    const report = await instance.restore(['--backup-id', name, '--target', instance.path(name)]);
    await using copy = await openCopy(cluster, report);
    const client = await copy.connect();
    expect((await client.query('select count(*)::int as rows from t')).rows).toEqual([{ rows: 20_000 }]);
  }
});

test.for(['analyze', 'checkpoint', 'copy', 'log', 'commit'])(
  "Ctrl-C at '%s' - exit 130, nothing listed, the next backup succeeds",
  async step => {
    const { cluster, instance } = await shared();
    const before = (await listed(instance)).backups.length;
    const run = instance.start(['backup', 'create']);
    while (!run.stdout().includes(`"step":"${step}"`) && run.process.exitCode === null)
      await new Promise(resolve => setTimeout(resolve, 1));
    run.process.kill('SIGINT');
    const done = await run.done;
    expect(done.exitCode, `${done.stdout}\n${done.stderr}`).toBe(130);
    expect(done.json.at(-1)).toMatchObject({ type: 'error', code: 'CANCELLED' });
    // From its commit on it is a backup, whatever is said of it afterwards.
    const { backups } = await listed(instance);
    if (step !== 'commit') expect(backups.length).toBe(before);
    expect(backups.every(each => each.status === 'valid')).toBe(true);
    const [activity] = await cluster.query<{ left: number }>(
      "select count(*)::int as left from pg_stat_activity where application_name like 'aishell%'",
    );
    expect(activity!.left).toBe(0);
    await instance.backup();
  },
);

test('--dry-run - an estimate, and nothing is written', async () => {
  const { cluster, instance } = await shared();
  // What earlier backups left for the server's archiver must not come between the looks.
  await expect
    .poll(() => cluster.query("select name from pg_ls_archive_statusdir() where name like '%.ready'"), {
      timeout: 60_000,
    })
    .toEqual([]);
  const tree = async (): Promise<unknown> => {
    const names = (await readdir(instance.repository, { recursive: true })).sort();
    return Promise.all(
      names.map(async name => [name, (await stat(join(instance.repository, name))).mtimeMs]),
    );
  };
  const before = await tree();
  const planned = await instance.backup(['--dry-run']);
  expect(planned.backup).toBeNull();
  expect(planned.analysis.summary.estimate.storedBytes).toBeGreaterThan(100_000);
  expect(await tree()).toEqual(before);
});

let common: { cluster: TestCluster; instance: TestInstance } | null = null;

/** One server for the tests that leave it as it was. */
async function shared(): Promise<{ cluster: TestCluster; instance: TestInstance }> {
  if (common === null) {
    const cluster = await startTestCluster({ version: 17, settings: { archive_timeout: '0' } });
    common = { cluster, instance: await protect(cluster) };
    await cluster.query('create table t as select generate_series(1, 20000) n');
  }
  return common;
}

afterAll(async () => {
  await common?.cluster[Symbol.asyncDispose]();
});

test('pages that change while they are read - none in the backup is newer than its end', async () => {
  // A server with next to no buffers writes what it changes at once. Many threads have everything at hand from the start,
  // and a thorough compression takes its time.
  await using cluster = await startTestCluster({ version: 17, settings: { shared_buffers: '128kB' } });
  const instance = await protect(cluster);
  const config = await readFile(instance.configFile, 'utf8');
  await writeFile(instance.configFile, config.replace('zstd:3', 'zstd:17'));
  await cluster.query(`create table busy as select id, md5(id::text) || md5((-id)::text) as t
    from generate_series(1, 120000) id`);
  const client = await cluster.connect();
  let isDone = false;
  const writing = (async () => {
    for (let round = 0; !isDone; round += 1)
      await client.query('update busy set t = reverse(t) where id % 997 = $1', [round % 997]);
    await client.end();
  })();
  const { backup } = await instance.backup(['--workers', '8']).finally(() => {
    isDone = true;
  });
  await writing;
  const files = await filesOf(instance, backup!.id);
  const pages = [...files]
    .filter(([path]) => relationOf(path, backup!.relationSegmentBlocks)?.fork === 'main')
    .flatMap(([, bytes]) =>
      Array.from({ length: Math.floor(bytes.length / 8192) }, (_, page) => pageLsn(bytes, page, 8192)),
    );
  const [start, stop] = [parseLsn(backup!.startLsn), parseLsn(backup!.stopLsn)];
  expect(pages.filter(lsn => lsn > start).length).toBeGreaterThan(100);
  expect(pages.filter(lsn => lsn > stop)).toEqual([]);
});
