import { chown, mkdir, readdir, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import type { BackupFacts } from '../../src/repository/manifest.ts';
import { runCli } from '../support/cli.ts';
import { failureOf, openCopy, protect, type RunningCopy, type TestInstance } from '../support/instance.ts';
import { checkClean, startTestCluster, type TestCluster } from '../support/postgres.ts';
import { loadTraffic } from '../support/traffic.ts';
import { fillWide, USERS, type WideState, wideSettings, wideState } from '../support/wide-database.ts';

/** A disaster, with what is known of the moment before it and of the end. */
interface Story {
  readonly instance: TestInstance;
  readonly backup: BackupFacts;
  /** At rest, just before the DELETE. */
  readonly before: WideState;
  readonly lsn: string;
  readonly time: string;
  /** Of the DELETE. */
  readonly xid: string;
  readonly end: WideState;
}

/** Backup under traffic; a quiet moment, well known; every user deleted; more traffic. */
async function liveThrough(cluster: TestCluster): Promise<Story> {
  const instance = await protect(cluster);
  await fillWide(cluster);
  const session = await cluster.connect();
  await session.query('create temporary table mine as select generate_series(1, 1000) n');
  const during = await loadTraffic(cluster, { clients: 3 });
  await during.progress(50);
  const { backup } = await instance.backup(['--name', 'before the disaster']);
  await during.progress(100);
  await during.stop();
  await cluster.query("select nextval('tickets')");
  const before = await wideState(cluster);
  const [moment] = await cluster.query<{ lsn: string; time: string }>(
    'select pg_current_wal_insert_lsn()::text as lsn, clock_timestamp()::text as time',
  );
  const [deleted] = await cluster.query<{ xid: string }>(
    'with gone as (delete from users returning 1) select pg_current_xact_id()::text as xid, count(*) from gone',
  );
  const after = await loadTraffic(cluster, { clients: 2 });
  await after.progress(100);
  await after.stop();
  await session.end();
  return {
    instance,
    backup: backup!,
    before,
    lsn: moment!.lsn,
    time: moment!.time,
    xid: deleted!.xid,
    end: await wideState(cluster),
  };
}

/** Restores, starts the copy, looks at it. */
async function restored(
  { instance }: Story,
  args: readonly string[],
  look: (copy: RunningCopy) => Promise<void>,
): Promise<void> {
  const target = instance.path(`copy${args[0]}`);
  const report = await instance.restore([...args, '--target', target]);
  expect(report.mode).toBe('directory');
  expect(report.recovered?.pages?.damaged).toEqual([]);
  expect(report.recovered?.checks.indexes.checked).toBeGreaterThan(100);
  await using copy = await openCopy(instance.cluster, report);
  await look(copy);
}

async function expectSound(copy: RunningCopy): Promise<void> {
  for (const database of ['postgres', 'second']) {
    const client = await copy.connect(database);
    await checkClean(client);
    await client.end();
  }
}

/** What a copy must and must not be, whatever its target. */
async function expectCopyOf(story: Story, copy: RunningCopy): Promise<void> {
  const { instance } = story;
  const client = await copy.connect();
  expect(await one(client, 'select count(*)::int from scratch')).toBe(0);
  expect(await one(client, 'show archive_mode')).toBe('off');
  expect(await one(client, 'show archive_command')).toBe('(disabled)');
  const place = await one(
    client,
    "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'",
  );
  expect(String(place).startsWith(await realpath(copy.dataDirectory))).toBe(true);
  expect(await temporaryRelations(copy.dataDirectory)).toEqual([]);
  // Life goes on in the copy: what was prepared can be committed, and the sequence goes on.
  expect(await one(client, 'select gid from pg_prepared_xacts')).toBe('pending');
  await client.query("commit prepared 'pending'");
  expect(await one(client, 'select name from places where id = -1')).toBe('prepared');
  expect(Number(await one(client, "select nextval('tickets')"))).toBeGreaterThan(4712);
  await client.query("insert into users values (-1, 'new@example.com', 'New', 'de', 0)");
  await client.query('select pg_switch_wal()');
  await client.end();
  // Even told to, it does not archive into its origin's repository.
  const segment = (await readdir(join(copy.dataDirectory, 'pg_wal'))).find(name =>
    /^0000000[2-9].{16}$/.test(name),
  );
  const archived = await instance.archivedLog();
  const refused = await instance.run([
    'backup',
    'wal-archive',
    join(copy.dataDirectory, 'pg_wal', segment ?? ''),
  ]);
  expect(failureOf(refused)).toMatchObject({ exitCode: 4, code: 'COPY_REFUSED' });
  expect(await instance.archivedLog()).toEqual(archived);
}

/** The traffic's own rule: whatever moment, no transaction is there by halves. */
async function expectConsistent(client: pg.Client): Promise<void> {
  const { rows } = await client.query(`select
    (select sum(balance) from accounts) - (select 1000 * count(*) from accounts) = (select coalesce(sum(delta), 0) from history) as balanced,
    (select count(*) from history) = (select count(*) from orders) as paired,
    (select count(*) from history) = (select coalesce(sum(last), 0) from (select max(seq) + 1 as last from history group by client) c) as gapless`);
  expect(rows).toEqual([{ balanced: true, paired: true, gapless: true }]);
}

async function one(client: pg.Client, sql: string): Promise<unknown> {
  const { rows } = await client.query({ text: sql, rowMode: 'array' });
  return rows[0]?.[0];
}

/** Files of temporary tables. */
async function temporaryRelations(directory: string): Promise<string[]> {
  const names = await readdir(directory, { recursive: true });
  return names.filter(name => /\/t\d+_\d+/.test(name));
}

describe.each([14, 15, 16, 17] as const)('PostgreSQL %i', version => {
  test('users deleted under traffic - back to the second before, and to the end, table by table', async () => {
    await using cluster = await startTestCluster({ version, settings: wideSettings });
    const story = await liveThrough(cluster);
    await restored(story, ['--point-in-time', story.time], async copy => {
      expect(await wideState(copy)).toEqual(story.before);
      await expectSound(copy);
      await expectCopyOf(story, copy);
    });
    await restored(story, ['--latest'], async copy => {
      expect(await wideState(copy)).toEqual(story.end);
    });
    expect(story.before.postgres['public.users']?.rows).toBe(USERS);
    expect(story.end.postgres['public.users']?.rows).toBe(0);
  });
});

test('PostgreSQL 18, users deleted under traffic - every kind of target, and an empty machine', async () => {
  await using cluster = await startTestCluster({ version: 18, settings: wideSettings });
  const story = await liveThrough(cluster);
  const { instance } = story;
  for (const target of [
    ['--point-in-time', story.time],
    ['--xid', story.xid],
    ['--lsn', story.lsn],
  ]) {
    await restored(story, target, async copy => {
      expect(await wideState(copy), target.join(' ')).toEqual(story.before);
      if (target[0] === '--xid') await expectSound(copy);
      if (target[0] === '--point-in-time') await expectCopyOf(story, copy);
    });
  }
  await restored(story, ['--backup-id', 'before the disaster'], async copy => {
    const client = await copy.connect();
    await expectConsistent(client);
    expect(await one(client, 'select count(*)::int from users')).toBe(USERS);
    expect(await one(client, 'select count(*) >= 50 from orders')).toBe(true);
    await client.end();
    await expectSound(copy);
  });
  await restored(story, ['--latest'], async copy => {
    expect(await wideState(copy)).toEqual(story.end);
    await expectSound(copy);
  });
  await expectOnEmptyMachine(story, instance);
});

/** Only the repository's directory and the recovery kit are left of the machine. */
async function expectOnEmptyMachine(story: Story, instance: TestInstance): Promise<void> {
  const { cluster } = instance;
  const moved = instance.path('another machine');
  await cluster.stop('immediate');
  await rm(cluster.dataDirectory, { recursive: true });
  await rm(instance.path('fast disk'), { recursive: true });
  for (const path of [instance.configFile, instance.init.keyFile!]) await rm(path);
  await mkdir(join(moved, 'home'), { recursive: true });
  for (const path of [moved, join(moved, 'home')]) {
    if (cluster.user !== null) await chown(path, cluster.user.uid, cluster.user.gid);
  }
  await rename(instance.repository, join(moved, 'repository'));
  const configFile = join(moved, 'aishell.yaml');
  await writeFile(
    configFile,
    `version: 1
instances:
  ${instance.name}:
    engine: postgresql
    connection: postgresql://postgres@127.0.0.1:1/postgres
    binaries: ${cluster.binaries.binDirectory}
repository:
  storage: ${join(moved, 'repository')}
  key:
    passphrase: env:RECOVERY
`,
  );
  const target = join(moved, 'restored');
  const args = ['backup', 'restore', '--latest', '--target', target, '--config', configFile, '--json'];
  const env = { HOME: join(moved, 'home'), RECOVERY: instance.init.recoveryPassphrase! };
  const done = await runCli(args, { env, cwd: join(moved, 'home') });
  expect(done.exitCode, `${done.stdout}\n${done.stderr}`).toBe(0);
  const report = done.json.at(-1)?.result as Parameters<typeof openCopy>[1];
  await using copy = await openCopy(cluster, report);
  expect(await wideState(copy)).toEqual(story.end);
  await expectSound(copy);
  expect(await readFile(join(target, 'PG_VERSION'), 'utf8')).toBe('18\n');
}
