import { chmod, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { parseLsn, segmentStart } from '../../src/engines/postgres/lsn.ts';
import { parsePartName } from '../../src/repository/log-parts.ts';
import {
  compareWithServer,
  keepsLog,
  protectWithAgent,
  startAgent,
  untilAllArchived,
} from '../support/agent.ts';
import { runCli } from '../support/cli.ts';
import { failureOf, openCopy, resultOf } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { loadTraffic } from '../support/traffic.ts';

const MIB = 1024 * 1024;

async function systemIdentifierOf(cluster: TestCluster): Promise<string> {
  const [row] = await cluster.query<{ id: string }>(
    'select system_identifier::text as id from pg_control_system()',
  );
  return row!.id;
}

test.each([14, 15, 16, 17, 18] as const)(
  'PostgreSQL %i under traffic - what is archived is byte for byte the server’s log, its end in pieces',
  async version => {
    await using cluster = await startTestCluster({ version, settings: keepsLog });
    const instance = await protectWithAgent(cluster, { agent: { archive_timeout: '1s' } });
    const [begin] = await cluster.query<{ lsn: string }>(
      'select redo_lsn::text as lsn from pg_control_checkpoint()',
    );
    await using agent = await startAgent(instance);
    const traffic = await loadTraffic(cluster, { clients: 2 });
    await traffic.progress(300);
    await cluster.query(
      'create table bulk as select n, repeat(md5(n::text), 20) as x from generate_series(1, 40000) n',
    );
    await traffic.progress(50);
    await traffic.stop();
    await untilAllArchived(instance);
    const from = segmentStart(parseLsn(begin!.lsn), 16 * MIB);
    expect(await compareWithServer(instance, { timeline: 1, from, segmentSize: 16 * MIB })).toBeGreaterThan(
      2,
    );
    await cluster.query("insert into orders (account, status, items) values (1, 'last', '[]')");
    // What holds the log back is asked for now and then.
    await expect
      .poll(() => agent.status(), { timeout: 20_000 })
      .toMatchObject({ state: 'streaming', slot: { name: 'aishell_shop' } });
    const status = await agent.status();
    expect(status).toMatchObject({ state: 'streaming', timeline: 1, problem: null, gaps: [] });
    expect(status.slot).toMatchObject({ name: 'aishell_shop', warning: null });
    while ((await agent.status()).archive.part === null) await sleep(100);
    const result = resultOf<{ instances: { waitingBytes: number }[] }>(await agent.stop());
    expect(result.instances).toMatchObject([{ instance: 'shop', waitingBytes: 0 }]);
    const parts = (await instance.archivedLog()).flatMap(name => parsePartName(name) ?? []);
    expect(parts.length).toBeGreaterThan(0);
  },
);

test('the machine is lost, server and spool - the last second comes back from the pieces', async () => {
  await using cluster = await startTestCluster({ version: 15 });
  const instance = await protectWithAgent(cluster, { agent: { archive_timeout: '1s' } });
  await using agent = await startAgent(instance);
  await cluster.query('create table pings (id int primary key)');
  await instance.backup();
  for (const id of [1, 2, 3]) {
    await cluster.query('insert into pings values ($1)', [id]);
    const before = (await agent.status()).archive.parts;
    while ((await agent.status()).archive.parts === before) await sleep(50);
  }
  const { spool } = await agent.status();
  await agent.kill();
  await cluster.kill9();
  await rm(spool.directory, { recursive: true });
  await rm(join(cluster.dataDirectory, 'pg_wal'), { recursive: true });
  const verified = await instance.run(['backup', 'verify', '--all']);
  expect(verified.exitCode, verified.stdout).toBe(0);
  const report = await instance.restore(['--latest', '--target', instance.path('copy')]);
  await using copy = await openCopy(cluster, report);
  const client = await copy.connect();
  expect((await client.query('select max(id) as last from pings')).rows).toEqual([{ last: 3 }]);
});

test('a second agent - refused: here by the lock, on another machine by the slot', async () => {
  await using cluster = await startTestCluster({ version: 18 });
  const instance = await protectWithAgent(cluster);
  await using agent = await startAgent(instance);
  const here = await instance.run(['agent', 'run']);
  expect(failureOf(here)).toMatchObject({ exitCode: 7, code: 'LOCKED' });
  expect(failureOf(here).message).toContain(`process ${agent.pid}`);
  const config = await readFile(instance.configFile, 'utf8');
  const elsewhereFile = instance.path('elsewhere.yaml');
  await writeFile(elsewhereFile, config.replace(instance.path('spool'), instance.path('elsewhere')), {
    mode: 0o644,
  });
  const elsewhere = await runCli(['agent', 'run', '--config', elsewhereFile, '--json']);
  expect(failureOf(elsewhere)).toMatchObject({ exitCode: 7, code: 'LOCKED' });
  expect(failureOf(elsewhere).hint).toContain('Another agent');
  // And the first one never noticed.
  expect((await agent.status()).state).toBe('streaming');
  expect(agent.notes().map(note => note['topic'])).toEqual(['streaming']);
});

test('another database system, or no agent - refused with the next step', async () => {
  await using cluster = await startTestCluster({ version: 15 });
  await using other = await startTestCluster({ version: 15 });
  const instance = await protectWithAgent(cluster);
  expect(failureOf(await instance.run(['agent', 'status']))).toMatchObject({
    exitCode: 6,
    code: 'AGENT_NOT_RUNNING',
  });
  const { host, port } = other.connection;
  const text = await readFile(instance.configFile, 'utf8');
  const connection = `connection: postgresql://postgres@${host}:${port}/postgres`;
  await writeFile(instance.configFile, text.replace(/connection: .*/, connection));
  expect(failureOf(await instance.run(['agent', 'run']))).toMatchObject({
    exitCode: 4,
    code: 'SYSTEM_MISMATCH',
  });
});

test('archive_command beside the agent - handed over, stored once; without the agent it goes on alone', async () => {
  await using cluster = await startTestCluster({ version: 15, settings: keepsLog, walSegmentSizeMb: 1 });
  const instance = await protectWithAgent(cluster, { archiving: true });
  await using agent = await startAgent(instance);
  await cluster.query(
    'create table bulk as select n, repeat(md5(n::text), 20) as x from generate_series(1, 10000) n',
  );
  const last = await untilAllArchived(instance);
  await untilServerArchived(cluster, last);
  // On a busy machine some are archived by the command: for the agent they are the same, and count.
  while ((await agent.status()).archive.segments < 6) await sleep(100);
  await agent.kill();
  await cluster.query('update bulk set n = -n');
  const alone = await untilAllArchived(instance);
  await untilServerArchived(cluster, alone);
  const [archiver] = await cluster.query('select failed_count::int as failed from pg_stat_archiver');
  expect(archiver).toEqual({ failed: 0 });
  await using _again = await startAgent(instance);
  await cluster.query('update bulk set n = -n');
  await untilServerArchived(cluster, await untilAllArchived(instance));
  const first = (await instance.archivedLog())[0]!;
  const from = BigInt(Number.parseInt(first.slice(16), 16) * MIB);
  expect(await compareWithServer(instance, { timeline: 1, from, segmentSize: MIB })).toBeGreaterThan(20);
});

test('the storage is down and back - the spool fills to its limit and says so, nothing is lost', async () => {
  await using cluster = await startTestCluster({ version: 18, settings: keepsLog });
  const instance = await protectWithAgent(cluster, { agent: { spool_limit: '100MB' } });
  await using agent = await startAgent(instance);
  await cluster.query('create table bulk (n int, x text)');
  const fill = async (): Promise<unknown> =>
    await cluster.query(
      'insert into bulk select n, repeat(md5(n::text), 30) from generate_series(1, 60000) n',
    );
  const [begin] = await cluster.query<{ lsn: string }>(
    'select redo_lsn::text as lsn from pg_control_checkpoint()',
  );
  await chmod(instance.repository, 0o000);
  try {
    await fill();
    await agent.until('archiving fails');
    await fill();
    await fill();
    const note = await agent.until('spool full');
    expect(note['message']).toContain('100 MB are not archived yet');
    const status = await agent.status();
    expect(status.state).toBe('spool full');
    // What is on its way when the limit is reached still comes in; nothing does after that.
    await fill();
    expect((await agent.status()).spool.waitingBytes).toBe(status.spool.waitingBytes);
    expect(status.slot?.retainedBytes).toBeGreaterThan(0);
  } finally {
    await chmod(instance.repository, 0o700);
  }
  await agent.until('archiving goes on', 60_000);
  await untilAllArchived(instance, 60_000);
  const from = segmentStart(parseLsn(begin!.lsn), 16 * MIB);
  expect(await compareWithServer(instance, { timeline: 1, from, segmentSize: 16 * MIB })).toBeGreaterThan(8);
});

test('log that the server removed before it was received - an error, remembered; it goes on behind the hole', async () => {
  await using cluster = await startTestCluster({
    version: 15,
    walSegmentSizeMb: 1,
    settings: { max_slot_wal_keep_size: '2MB', max_wal_size: '4MB', min_wal_size: '2MB', wal_keep_size: 0 },
  });
  const instance = await protectWithAgent(cluster);
  const first = await startAgent(instance);
  await cluster.query('create table bulk (n int, x text)');
  await untilAllArchived(instance);
  const spool = join(instance.path('spool'), 'shop', await systemIdentifierOf(cluster));
  await cluster.query('insert into bulk values (0)');
  // Received a moment after it is committed.
  await expect
    .poll(async () => (await readdir(spool)).some(name => name.endsWith('.partial')), { timeout: 10_000 })
    .toBe(true);
  await first.stop();
  const unfinished = (await readdir(spool)).find(name => name.endsWith('.partial')) ?? '';
  const before = await readFile(join(spool, unfinished));
  for (let round = 0; round < 6; round += 1) {
    await cluster.query(
      'insert into bulk select n, repeat(md5(n::text), 20) from generate_series(1, 6000) n',
    );
    await cluster.query('checkpoint');
  }
  await using agent = await startAgent(instance);
  const gap = await agent.until('gap');
  expect(gap).toMatchObject({ level: 'error', message: expect.stringContaining('aishell backup create') });
  const { gaps, state } = await agent.status();
  expect([state, gaps.length]).toEqual(['streaming', 1]);
  expect(parseLsn(gaps[0]!.to)).toBeGreaterThan(parseLsn(gaps[0]!.from));
  await cluster.query('insert into bulk select n, md5(n::text) from generate_series(1, 20000) n');
  await untilAllArchived(instance);
  // What is there is the server's, from behind the hole on, and the hole is one.
  const names = await instance.archivedLog();
  const behind = BigInt(parseLsn(gaps[0]!.to));
  const missing = `0000000100000000${(behind / BigInt(MIB) - 1n).toString(16).toUpperCase().padStart(8, '0')}`;
  expect(names).not.toContain(missing);
  await agent.stop();
  await using again = await startAgent(instance);
  expect((await again.status()).gaps.length).toBe(1);
  expect(again.notes().some(note => note['topic'] === 'gap')).toBe(false);
  // Nor where the end of what was received before the hole was not archived yet, as the storage was away.
  await again.stop();
  await writeFile(join(spool, unfinished), before);
  await using last = await startAgent(instance);
  expect((await last.status()).gaps.length).toBe(1);
  expect(last.notes().some(note => note['topic'] === 'gap')).toBe(false);
});

test('the spool is lost with what was not archived - all that the server still has is received once more', async () => {
  await using cluster = await startTestCluster({ version: 17, walSegmentSizeMb: 1, settings: keepsLog });
  const instance = await protectWithAgent(cluster);
  const first = await startAgent(instance);
  await cluster.query('create table bulk (n int, x text)');
  const begin = await untilAllArchived(instance);
  await chmod(instance.repository, 0o000);
  try {
    await cluster.query('insert into bulk select n, md5(n::text) from generate_series(1, 60000) n');
    await first.until('archiving fails');
    const [end] = await cluster.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn');
    while (parseLsn((await first.status()).durable!) < parseLsn(end!.lsn)) await sleep(50);
    await first.kill();
  } finally {
    await chmod(instance.repository, 0o700);
  }
  await rm(instance.path('spool'), { recursive: true });
  await cluster.query('checkpoint');
  await using agent = await startAgent(instance);
  await untilAllArchived(instance);
  const from = BigInt(Number.parseInt(begin.slice(16), 16) * MIB);
  expect(await compareWithServer(instance, { timeline: 1, from, segmentSize: MIB })).toBeGreaterThan(4);
  expect((await agent.status()).gaps).toEqual([]);
});

test('an unfinished segment larger than the limit of the spool - it goes on all the same', async () => {
  const settings = { min_wal_size: '256MB', max_wal_size: '1GB' };
  await using cluster = await startTestCluster({ version: 15, walSegmentSizeMb: 128, settings });
  const instance = await protectWithAgent(cluster, { agent: { spool_limit: '100MB' } });
  await using agent = await startAgent(instance);
  const [end] = await cluster.query<{ lsn: string }>(
    `with filled as (
       select count(pg_logical_emit_message(false, 'x', repeat(md5(n::text), 30000))) from generate_series(1, 110) n
     ) select pg_current_wal_lsn()::text as lsn from filled`,
  );
  while (parseLsn((await agent.status()).durable!) < parseLsn(end!.lsn)) await sleep(50);
  // It looks for room every few seconds.
  await sleep(6000);
  await untilAllArchived(instance, 20_000);
  expect(agent.notes().some(note => note['topic'] === 'spool full')).toBe(false);
});

test('a restore in place while the agent streams - it follows to the new timeline, and the next restore finds it', async () => {
  await using cluster = await startTestCluster({ version: 15, settings: keepsLog });
  const instance = await protectWithAgent(cluster, { archiving: true });
  await using agent = await startAgent(instance);
  await cluster.query('create table pings (id int primary key)');
  await instance.backup();
  for (const timeline of [2, 3]) {
    await cluster.query('insert into pings values ($1)', [timeline * 10]);
    const [kept] = await cluster.query<{ at: string }>(
      'select clock_timestamp()::text as at, pg_sleep(0.05)',
    );
    await cluster.query('insert into pings values ($1)', [timeline * 10 + 1]);
    await instance.restore(['--point-in-time', kept!.at]);
    while ((await agent.status()).timeline !== timeline || (await agent.status()).state !== 'streaming')
      await sleep(100);
    await untilAllArchived(instance);
  }
  const rows = await cluster.query('select array_agg(id order by id) as ids from pings');
  expect(rows).toEqual([{ ids: [20, 30] }]);
  const names = await instance.archivedLog();
  expect(names.filter(name => name.endsWith('.history'))).toEqual(['00000002.history', '00000003.history']);
  const [begin] = await cluster.query<{ lsn: string }>(
    'select redo_lsn::text as lsn from pg_control_checkpoint()',
  );
  const from = segmentStart(parseLsn(begin!.lsn), 16 * MIB);
  expect(await compareWithServer(instance, { timeline: 3, from, segmentSize: 16 * MIB })).toBeGreaterThan(0);
});

async function untilServerArchived(
  cluster: Awaited<ReturnType<typeof startTestCluster>>,
  name: string,
): Promise<void> {
  for (let tries = 0; tries < 300; tries += 1) {
    const [row] = await cluster.query<{ last: string | null }>(
      'select last_archived_wal as last from pg_stat_archiver',
    );
    if (row?.last !== null && row!.last >= name) return;
    await sleep(100);
  }
  throw new Error(`${name} was not archived by the server`);
}
