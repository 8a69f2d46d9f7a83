import { randomBytes } from 'node:crypto';
import { lchownSync, mkdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { CreateBackupResult } from '../../src/operations/backup/create-backup.ts';
import type { RestoreReport } from '../../src/operations/restore/restore-report.ts';
import type { VerifyReport } from '../../src/operations/verify/verify-backups.ts';
import { newBackupId } from '../../src/repository/layout.ts';
import { writeBackup } from '../repository/write-backup.ts';
import { filesOf, manifestOf, openTestRepository } from '../support/backup-content.ts';
import type { CliResult } from '../support/cli.ts';
import { failureOf, openCopy, protect, resultOf, type TestInstance } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

/** Gives what a test has made to the server's account. */
function own(cluster: TestCluster, path: string): string {
  const { uid, gid } = statSync(cluster.dataDirectory);
  lchownSync(path, uid, gid);
  return path;
}

function warningsOf(done: CliResult): string {
  return done.json
    .filter(event => event.type === 'note')
    .map(event => String(event['message']))
    .join('\n');
}

async function idsOf(instance: TestInstance): Promise<string[]> {
  const done = await instance.run(['backup', 'list']);
  return resultOf<{ backups: { id: string }[] }>(done).backups.map(each => each.id);
}

test('the server removes log that nothing holds while a backup that has to bring it along runs - refused, nothing listed', async () => {
  await using cluster = await startTestCluster({
    version: 17,
    settings: { max_wal_size: '32MB', min_wal_size: '32MB', autovacuum: 'off', max_replication_slots: 0 },
  });
  const instance = await protect(cluster, { archiving: false });
  await cluster.query(`create table big as
    select n, md5(n::text) || md5((n * 7)::text) || md5((n * 13)::text) as v from generate_series(1, 1000000) n`);
  await cluster.query('create table written (v text)');
  const running = instance.start(['backup', 'create']);
  let ended = false;
  void running.done.then(() => {
    ended = true;
  });
  const client = await cluster.connect();
  while (!ended) {
    await client.query('insert into written select md5(n::text) from generate_series(1, 20000) n');
    await client.query('select pg_switch_wal()');
    await client.query('checkpoint');
  }
  const refused = failureOf(await running.done);
  expect(refused).toMatchObject({ exitCode: 6, code: 'LOG_NOT_FOUND' });
  expect(refused.message).toMatch(/has removed log segment '[0-9A-F]{24}'.* as nothing held it/);
  expect(await idsOf(instance)).toEqual([]);
});

test('a backup that says it has its log, and has not - verify says that nothing can be restored from it', async () => {
  await using cluster = await startTestCluster({ version: 16 });
  const instance = await protect(cluster, { archiving: false });
  await instance.run(['backup', 'create']);
  const taken = (await idsOf(instance))[0]!;
  expect(resultOf<VerifyReport>(await instance.run(['backup', 'verify', '--all'])).problems).toEqual([]);
  const id = newBackupId(new Date(), randomBytes(3));
  const files = [...(await filesOf(instance, taken))].map(([path, bytes]) => ({ path, bytes }));
  const kept = files.filter(({ path }) => !path.startsWith('pg_wal/') && path !== 'backup_label');
  const facts = { ...(await manifestOf(instance, taken)).backup, id };
  await writeBackup(await openTestRepository(instance), kept, { facts });
  const done = await instance.run(['backup', 'verify', '--backup-id', id]);
  expect(done.exitCode, done.stdout + done.stderr).toBe(9);
  const problems = (done.json.at(-1)?.result as VerifyReport | undefined)?.problems ?? [];
  expect(problems.map(each => each.message).join('\n')).toMatch(
    /no whole file 'backup_label'\n.*no whole file 'pg_wal\/[0-9A-F]{24}'/,
  );
  expect(problems[0]?.affects).toBe(`backup ${id} cannot be restored`);
});

test('links to settings, names that no manifest may hold - taken along as files, or left out with a word; the copy starts', async () => {
  await using cluster = await startTestCluster({ version: 16 });
  const instance = await protect(cluster);
  const { dataDirectory } = cluster;
  const elsewhere = (name: string): string => join(cluster.directory, name);
  const link = (to: string, name: string): void => {
    symlinkSync(to, join(dataDirectory, name));
    own(cluster, join(dataDirectory, name));
  };
  writeFileSync(elsewhere('linked.conf'), "work_mem = '7MB'\n");
  own(cluster, elsewhere('linked.conf'));
  link(elsewhere('linked.conf'), 'linked.conf');
  mkdirSync(elsewhere('settings'));
  writeFileSync(elsewhere('settings/more.conf'), "maintenance_work_mem = '77MB'\n");
  own(cluster, elsewhere('settings'));
  own(cluster, elsewhere('settings/more.conf'));
  link(elsewhere('settings'), 'settings');
  link('/nowhere', 'dangling');
  await appendFile(
    join(dataDirectory, 'postgresql.conf'),
    "\ninclude 'linked.conf'\ninclude_dir 'settings'\n",
  );
  await cluster.query('select pg_reload_conf()');
  writeFileSync(join(dataDirectory, 'core\\x2d1'), 'x');
  const latin1 = Buffer.concat([Buffer.from(join(dataDirectory, 'b')), Buffer.from([0xe4])]);
  writeFileSync(latin1, 'x');
  const done = await instance.run(['backup', 'create']);
  const { backup } = resultOf<CreateBackupResult>(done);
  const warnings = warningsOf(done);
  for (const name of ['settings', 'dangling', 'core\\x2d1', 'b\uFFFD'])
    expect(warnings).toContain(`'${name}' is not in the backup`);
  expect(warnings).not.toContain('linked.conf');
  expect((await filesOf(instance, backup!.id)).get('linked.conf')?.toString()).toBe("work_mem = '7MB'\n");
  expect(resultOf<VerifyReport>(await instance.run(['backup', 'verify', '--all'])).problems).toEqual([]);
  const report = await instance.restore(['--latest', '--target', instance.path('copy')]);
  await using copy = await openCopy(cluster, report);
  const { rows } = await (await copy.connect()).query(
    "select current_setting('work_mem') as a, current_setting('maintenance_work_mem') as b",
  );
  expect(rows).toEqual([{ a: '7MB', b: '77MB' }]);
  rmSync(latin1);
});

test('a database that was moved and linked by hand - refused before anything is read, and says which', async () => {
  await using cluster = await startTestCluster({ version: 16 });
  const instance = await protect(cluster);
  await cluster.query('create database moved');
  const [row] = await cluster.query<{ oid: string }>(
    "select oid::text from pg_database where datname = 'moved'",
  );
  const place = `base/${row!.oid}`;
  await cluster.stop();
  renameSync(join(cluster.dataDirectory, place), join(cluster.directory, 'moved'));
  symlinkSync(join(cluster.directory, 'moved'), join(cluster.dataDirectory, place));
  await cluster.start();
  for (const args of [['--dry-run'], []]) {
    const refused = failureOf(await instance.run(['backup', 'create', ...args]));
    expect(refused).toMatchObject({ exitCode: 2, code: 'UNSUPPORTED' });
    expect(refused.message).toContain(`'${place}' in it is a symbolic link to`);
  }
  expect(await idsOf(instance)).toEqual([]);
});

test('a tablespace in place - restored in place', async () => {
  await using cluster = await startTestCluster({
    version: 16,
    settings: { allow_in_place_tablespaces: 'on' },
  });
  const instance = await protect(cluster);
  await cluster.query("create tablespace inplace location ''");
  await cluster.query('create table t tablespace inplace as select 42 as n');
  await instance.backup();
  await cluster.query('insert into t values (43)');
  const report: RestoreReport = await instance.restore(['--latest', '--target', instance.path('copy')]);
  await using copy = await openCopy(cluster, report);
  const { rows } = await (await copy.connect()).query('select sum(n)::int as sum from t');
  expect(rows).toEqual([{ sum: 85 }]);
});
