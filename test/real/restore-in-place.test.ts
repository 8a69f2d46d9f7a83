import { execFile } from 'node:child_process';
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { parsePartName } from '../../src/repository/log-parts.ts';
import {
  failureOf,
  openCopy,
  protect,
  resultOf,
  shell,
  type TestInstance,
  untilArchived,
} from '../support/instance.ts';
import { checkClean, startTestCluster, type TestCluster, tableFingerprints } from '../support/postgres.ts';
import { loadTraffic } from '../support/traffic.ts';
import { fillWide, USERS, type WideState, wideSettings, wideState } from '../support/wide-database.ts';

interface Disaster {
  readonly before: WideState;
  readonly xid: string;
}

/** Traffic, a quiet moment, every row of a table deleted, traffic again. */
async function disaster(cluster: TestCluster, table: string): Promise<Disaster> {
  await trade(cluster, 50);
  const before = await wideState(cluster);
  const [row] = await cluster.query<{ xid: string }>(
    `with gone as (delete from ${table} returning 1) select pg_current_xact_id()::text as xid, count(*) from gone`,
  );
  await trade(cluster, 50);
  return { before, xid: row!.xid };
}

async function trade(cluster: TestCluster, transactions: number): Promise<void> {
  const traffic = await loadTraffic(cluster, { clients: 2 });
  await traffic.progress(transactions);
  await traffic.stop();
}

async function timelineOf(cluster: TestCluster): Promise<number> {
  const [row] = await cluster.query<{ timeline: number }>(
    "select ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int as timeline",
  );
  return row!.timeline;
}

/** Everything the server has written is in the archive. */
async function archiveAll(instance: TestInstance): Promise<void> {
  const [row] = await instance.cluster.query<{ name: string }>(
    'select pg_walfile_name(pg_switch_wal()) as name',
  );
  await untilArchived(instance, row!.name);
}

/** The archived segments of a timeline follow one another without a gap, from the one it began in. */
function expectGapless(archived: readonly string[], timeline: number, firstLsn: string): void {
  const prefix = timeline.toString(16).toUpperCase().padStart(8, '0');
  const numbers = archived
    .filter(name => name.startsWith(prefix) && /^[0-9A-F]{24}$/.test(name))
    .map(name => Number.parseInt(name.slice(8, 16), 16) * 256 + Number.parseInt(name.slice(16), 16));
  const [high, low] = firstLsn.split('/').map(part => Number.parseInt(part, 16));
  const first = high! * 256 + Math.floor(low! / (16 * 1024 * 1024));
  expect(numbers).toEqual(numbers.map((_, index) => first + index));
  expect(numbers.length).toBeGreaterThan(0);
}

describe.each([15, 18] as const)('PostgreSQL %i', version => {
  test('two disasters, both undone in place - timelines 2 and 3, everything archived, timeline 1 still reachable', async () => {
    await using cluster = await startTestCluster({ version, settings: wideSettings });
    const instance = await protect(cluster);
    await fillWide(cluster);
    await instance.backup();
    const first = await disaster(cluster, 'users');

    const report = await instance.restore(['--xid', first.xid]);
    expect(report.mode).toBe('in-place');
    expect(report.downtimeSeconds).toBeGreaterThan(0);
    expect(await wideState(cluster)).toEqual(first.before);
    expect(await timelineOf(cluster)).toBe(2);
    await expectSettingsKept(cluster);

    await trade(cluster, 30);
    await archiveAll(instance);
    const history = (await instance.archivedLog()).filter(name => name.endsWith('.history'));
    expect(history).toEqual(['00000002.history']);
    expectGapless(await instance.archivedLog(), 2, report.target.lsn!);
    const onSecond = (await instance.backup(['--name', 'second'])).backup!;
    expect(onSecond.timeline).toBe(2);

    const second = await disaster(cluster, 'orders');
    const again = await instance.restore(['--xid', second.xid]);
    expect(again.backup.id).toBe(onSecond.id);
    expect(await wideState(cluster)).toEqual(second.before);
    expect(await timelineOf(cluster)).toBe(3);
    const client = await cluster.connect();
    await checkClean(client);
    await client.end();

    // The first timeline's own end, where the users were gone, is still there for who wants it.
    const old = await instance.restore(['--latest', '--timeline', '1', '--target', instance.path('old')]);
    await using copy = await openCopy(cluster, old);
    const state = await wideState(copy);
    expect(state.postgres['public.users']?.rows).toBe(0);
    expect(state.postgres['public.orders']!.rows).toBeGreaterThan(
      first.before.postgres['public.orders']!.rows,
    );
  });
});

test.each(['--full', '--rewind'])(
  '%s to shortly before the end of a segment, which its checks or its opening go beyond - all of the new timeline is archived',
  async way => {
    await using cluster = await startTestCluster({ version: 16 });
    const instance = await protect(cluster);
    // Whoever reads a row first leaves a hint in its page, which is logged.
    await cluster.query(
      'create table notes as select n as id, md5(n::text) from generate_series(1, 400000) n',
    );
    await cluster.query('create table kept (id int)');
    await instance.backup();
    await cluster.query(`select pg_logical_emit_message(false, 'fill', repeat('x',
    16 * 1024 * 1024 - 60000 - (pg_walfile_name_offset(pg_current_wal_insert_lsn())).file_offset))`);
    await cluster.query('insert into kept values (1)');
    const [row] = await cluster.query<{ xid: string }>(
      'with gone as (delete from notes where id <= 10 returning 1) select pg_current_xact_id()::text as xid, count(*) from gone',
    );
    const report = await instance.restore(['--xid', row!.xid, way]);
    await archiveAll(instance);
    expectGapless(await instance.archivedLog(), 2, report.target.lsn!);
  },
);

/** Archiving goes on with the settings that were made through the server, not those of the backup's time. */
async function expectSettingsKept(cluster: TestCluster): Promise<void> {
  const [row] = await cluster.query<{ mode: string; command: string }>(
    "select current_setting('archive_mode') as mode, current_setting('archive_command') as command",
  );
  expect(row!.mode).toBe('on');
  expect(row!.command).toContain('wal-archive');
}

test('root restores - the files belong to the server, and it starts; the way back brings the old state', async () => {
  await using cluster = await startTestCluster({ version: 18, settings: wideSettings });
  const instance = await protect(cluster);
  await fillWide(cluster);
  await instance.backup();
  const { before, xid } = await disaster(cluster, 'users');
  const lost = await wideState(cluster);
  // Since the backup an administrator has put something there; it stays, and the server can read it.
  const made = await shell(
    cluster,
    `cd '${cluster.dataDirectory}' && mkdir conf.d && echo > conf.d/new.conf && echo > new.crt`,
  );
  expect(made.exitCode, made.output).toBe(0);
  const report = await instance.restore(['--xid', xid, '--full'], { asServerUser: false });
  expect(await wideState(cluster)).toEqual(before);
  const { uid } = await stat(cluster.dataDirectory);
  const names = await readdir(cluster.dataDirectory);
  expect(names).toContain('new.crt');
  for (const name of [...names, 'conf.d/new.conf']) {
    expect([name, (await stat(join(cluster.dataDirectory, name))).uid]).toEqual([name, uid]);
  }
  // What the report says, by whoever restored.
  await promisify(execFile)('/bin/sh', ['-c', report.safety!.goBack]);
  expect(await wideState(cluster)).toEqual(lost);
  expect(await timelineOf(cluster)).toBe(1);
});

test('a server that crashed - its unarchived log is used, not one committed row is missing', async () => {
  await using cluster = await startTestCluster({ version: 18 });
  const instance = await protect(cluster);
  await cluster.query('create table pings (id int primary key)');
  await instance.backup();
  const client = await cluster.connect();
  for (let id = 1; id <= 500; id += 1) await client.query('insert into pings values ($1)', [id]);
  await cluster.kill9();
  const report = await instance.restore(['--latest']);
  expect(report.downtimeSeconds).toBeNull();
  expect(await cluster.query('select count(*)::int as rows, max(id) as last from pings')).toEqual([
    { rows: 500, last: 500 },
  ]);
  expect(await timelineOf(cluster)).toBe(2);
  // The server goes on archiving, and the next restore finds its way over the crash.
  await cluster.query('insert into pings values (501)');
  await archiveAll(instance);
  const copied = await instance.restore(['--latest', '--target', instance.path('after')]);
  await using copy = await openCopy(cluster, copied);
  const after = await copy.connect();
  expect((await after.query('select max(id) as last from pings')).rows).toEqual([{ last: 501 }]);
});

test('crashed, restored beside, started again, crashed in the same segment - the second crash counts', async () => {
  await using cluster = await startTestCluster({ version: 14 });
  const instance = await protect(cluster);
  await cluster.query('create table pings (id int primary key)');
  await instance.backup();
  for (const id of [1, 2]) {
    await cluster.query('insert into pings values ($1)', [id]);
    await cluster.kill9();
    const report = await instance.restore(['--latest', '--target', instance.path(`copy-${id}`)]);
    await using copy = await openCopy(cluster, report);
    const client = await copy.connect();
    expect((await client.query('select max(id) as last from pings')).rows).toEqual([{ last: id }]);
    await cluster.start();
  }
  // The first piece is still there, and the second one begins where it ends.
  const [first, second, ...more] = (await instance.archivedLog()).flatMap(name => parsePartName(name) ?? []);
  expect([first?.from, second?.from, more.length]).toEqual([0, first?.to, 0]);
});

test('a server that was promoted before it was protected - its history comes along, archived or not', async () => {
  await using cluster = await startTestCluster({ version: 15, settings: { restore_command: 'false' } });
  await cluster.query('create table pings as select 1 as id');
  await cluster.stop();
  expect((await shell(cluster, `touch '${cluster.dataDirectory}/recovery.signal'`)).exitCode).toBe(0);
  await cluster.start();
  await expect
    .poll(() => cluster.query('select pg_is_in_recovery() as recovering'), { timeout: 30_000 })
    .toEqual([{ recovering: false }]);
  expect(await timelineOf(cluster)).toBe(2);
  const instance = await protect(cluster);
  await instance.backup();
  await cluster.query('insert into pings values (2)');
  const report = await instance.restore(['--latest', '--target', instance.path('copy')]);
  await using copy = await openCopy(cluster, report);
  const client = await copy.connect();
  expect((await client.query('select max(id) as last from pings')).rows).toEqual([{ last: 2 }]);
});

test('no terminal and no flags, or the wrong phrase - exit 4, and the server never noticed', async () => {
  await using cluster = await startTestCluster({ version: 17 });
  const instance = await protect(cluster);
  await cluster.query('create table t as select generate_series(1, 1000) n');
  await instance.backup();
  const pid = await cluster.pid();
  const beside = async (): Promise<string[]> => (await readdir(cluster.directory)).sort();
  const before = await beside();
  const attempts = [
    [],
    ['--yes'],
    ['--confirm', 'restore shop'],
    ['--confirm', 'restore another', '--yes'],
    ['--confirm', 'YES', '--yes'],
  ];
  for (const flags of attempts) {
    const refused = failureOf(await instance.run(['backup', 'restore', '--latest', ...flags]));
    expect(refused, flags.join(' ')).toMatchObject({ exitCode: 4, code: 'CONFIRMATION_REQUIRED' });
    expect(refused.hint).toContain('Nothing was changed');
  }
  expect(await cluster.pid()).toBe(pid);
  expect(await beside()).toEqual(before);
  // A dry run needs no confirmation, and changes as little.
  const planned = resultOf<{ dryRun: boolean; safety: { goBack: string } }>(
    await instance.run(['backup', 'restore', '--latest', '--dry-run']),
  );
  expect(planned.dryRun).toBe(true);
  expect(await cluster.pid()).toBe(pid);
  expect(await beside()).toEqual(before);
});

test('a pack that turns out to be damaged once the server is stopped - the old state starts with the printed command', async () => {
  await using cluster = await startTestCluster({ version: 16, settings: wideSettings });
  const instance = await protect(cluster);
  await fillWide(cluster);
  await instance.backup();
  const { xid } = await disaster(cluster, 'users');
  const lost = await wideState(cluster);
  const beside = await readdir(cluster.directory);
  // The check looks whether every pack is there, and the sample of `backup create` found them good.
  const faults = JSON.stringify({ reads: { fault: 'flip', key: '/packs/' } });
  const confirmed = ['--confirm', 'restore shop', '--yes'];
  const done = await instance.run(['backup', 'restore', '--xid', xid, '--full', ...confirmed], {
    env: { AISHELL_STORAGE_FAULTS: faults },
  });
  const failed = failureOf(done);
  expect(failed).toMatchObject({ exitCode: 9, code: 'CORRUPT' });
  expect(done.stdout).toContain('Server stopped');
  expect(await cluster.pid()).toBeNull();
  const command = /start it with: (.+)$/.exec(failed.hint)?.[1] ?? 'false';
  expect((await shell(cluster, command)).exitCode).toBe(0);
  expect(await wideState(cluster)).toEqual(lost);
  expect(await readdir(cluster.directory)).toEqual(beside);
});

test('a restore killed at any moment - the old server starts again, or the script beside brings it back', async () => {
  await using cluster = await startTestCluster({ version: 18, settings: wideSettings });
  const instance = await protect(cluster);
  await fillWide(cluster);
  await instance.backup();
  const { xid } = await disaster(cluster, 'users');
  const lost = await wideState(cluster);
  const steps = ['stop', 'restore-files', 'replay', 'promote', 'pages', 'configure', 'swap', 'start'];
  for (const step of steps) {
    await killAt(instance, xid, step);
    await bringBack(cluster);
    expect(await wideState(cluster), `killed at ${step}`).toEqual(lost);
  }
  const client = await cluster.connect();
  await checkClean(client);
  expect(Object.keys(await tableFingerprints(client)).length).toBeGreaterThan(5);
  await client.end();
  // And then it succeeds, in spite of what the killed ones have left: files, and in the archive the histories of the
  // timelines that they had opened. How many these are depends on the moment of each kill; none is used again.
  const histories = (await instance.archivedLog()).filter(name => name.endsWith('.history')).sort();
  expect(histories).toContain('00000002.history');
  const newest = Number.parseInt(histories.at(-1) ?? '', 16);
  await instance.restore(['--xid', xid]);
  expect(await cluster.query('select count(*)::int as rows from users')).toEqual([{ rows: USERS }]);
  expect(await timelineOf(cluster)).toBe(newest + 1);
  await archiveAll(instance);
  // Back on the first timeline once more, by choice: again a number never used, and archiving goes on.
  await instance.restore(['--latest', '--timeline', '1']);
  expect(await wideState(cluster)).toEqual(lost);
  expect(await timelineOf(cluster)).toBe(newest + 2);
  await archiveAll(instance);
});

/** SIGKILL a moment after a step began. */
async function killAt(instance: TestInstance, xid: string, step: string): Promise<void> {
  const confirmed = ['--confirm', 'restore shop', '--yes'];
  const run = instance.start(['backup', 'restore', '--xid', xid, '--full', ...confirmed]);
  while (!run.stdout().includes(`"step":"${step}"`) && run.process.exitCode === null)
    await new Promise(resolve => setTimeout(resolve, 1));
  await new Promise(resolve => setTimeout(resolve, Math.random() * 30));
  run.process.kill('SIGKILL');
  await run.done;
}

/** As a person would: the script, if one was written for what happened last; else pg_ctl. */
async function bringBack(cluster: TestCluster): Promise<void> {
  const { dataDirectory } = cluster;
  const names = await readdir(cluster.directory);
  const kept = names.filter(name => /aishell-safety-\d+_\d+$/.test(name)).sort();
  const newest = kept.at(-1);
  if (newest !== undefined) {
    // pg_ctl may go on starting the new server; nobody types the next command before that is seen in its directory.
    await new Promise(resolve => setTimeout(resolve, 3000));
    const script = newest.replace('aishell-safety', 'aishell-go-back');
    const { exitCode, output } = await shell(cluster, `sh '${join(cluster.directory, script)}.sh'`);
    expect(exitCode, output).toBe(0);
    return;
  }
  // It may be in the middle of stopping.
  await cluster.stop();
  expect(await readFile(join(dataDirectory, 'PG_VERSION'), 'utf8')).toBe('18\n');
  expect(basename(dataDirectory)).toBe('data');
  await cluster.start();
}
