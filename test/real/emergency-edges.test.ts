import { existsSync } from 'node:fs';
import { appendFile, chown, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { emergencyStatus, reportOf, resumeWrites, stopArgs, stopWrites } from '../support/emergency.ts';
import { failureOf, protect, type TestInstance } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { configureEmergency, dumpControls } from '../support/server-controls.ts';

let cluster: TestCluster;
let instance: TestInstance;
let before: Record<string, unknown>;

beforeAll(async () => {
  cluster = await startTestCluster({ version: 18, settings: { wal_level: 'logical' } });
  await cluster.query('create database shop');
  await cluster.query('create role app login');
  // Of the kinds that have been there before, and must be again: with a place among others, and a value of its own.
  await cluster.query("alter role app set work_mem = '5MB'");
  await cluster.query('alter role app set default_transaction_read_only = off');
  await cluster.query('alter role app set random_page_cost = 2');
  await cluster.query('alter role app in database shop set default_transaction_read_only = false');
  await cluster.query('alter database shop set default_transaction_read_only = off');
  await cluster.query('alter database shop connection limit 17');
  await cluster.query("alter system set default_transaction_read_only = 'off'");
  await cluster.query('select pg_reload_conf()');
  instance = await protect(cluster, { archiving: false });
});

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
});

async function begin(lines: readonly string[] = []): Promise<void> {
  await configureEmergency(instance, lines);
  before = await dumpControls(cluster);
}

/** Whatever a test does, the server must be as before when writes were resumed. */
afterEach(async () => {
  await instance.run(['emergency', 'resume-writes']);
  await configureEmergency(instance);
});

async function tryWrite(user: string, database: string): Promise<string> {
  const pg = (await import('pg')).default;
  const client = new pg.Client({ ...cluster.connection, user, database });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('create temp table probe (a int)');
    return 'written';
  } catch (error) {
    return String((error as { code?: string }).code);
  } finally {
    await client.end().catch(() => undefined);
  }
}

test('settings of roles and databases that say otherwise - are overruled and come back in their places', async () => {
  await begin();
  expect(await tryWrite('app', 'shop')).toBe('written');
  const held = await cluster.connect('shop');
  await held.query('select 1');
  const report = await stopWrites(instance);
  expect(report.problems).toEqual([]);
  expect(await tryWrite('app', 'shop')).toBe('25006');
  expect(await tryWrite('app', 'postgres')).toBe('25006');
  // An idle session, too: what it was told when it began counts for it.
  await expect(held.query('create temp table probe (a int)')).rejects.toThrow();
  await resumeWrites(instance);
  expect(await dumpControls(cluster)).toEqual(before);
});

test('from soft to hard to strict, then a gentler one - the first values are kept, one resume puts all back', async () => {
  await begin();
  const first = await stopWrites(instance, '--level', 'soft', '--reason', 'first');
  const hard = await stopWrites(instance, '--level', 'hard');
  expect(hard).toMatchObject({ id: first.id, already: true, reason: 'first', level: 'hard' });
  expect(await tryWrite('postgres', 'shop')).toBe('55000');
  const strict = await stopWrites(instance, '--level', 'strict');
  expect(strict).toMatchObject({ id: first.id, level: 'strict', proof: { inRecovery: true } });
  const again = await stopWrites(instance, '--level', 'soft');
  expect(again).toMatchObject({ id: first.id, level: 'strict', already: true, proof: { transactions: 0 } });
  expect(await emergencyStatus(instance)).toMatchObject({
    inEffect: true,
    problems: [],
    server: { inRecovery: true },
  });
  await resumeWrites(instance);
  expect(await dumpControls(cluster)).toEqual(before);
});

test('--dry-run - shows every change and makes none', async () => {
  await begin();
  const report = await stopWrites(instance, '--level', 'strict', '--dry-run');
  expect(report.dryRun).toBe(true);
  expect(report.changes.map(({ kind }) => kind)).toContain('standby-signal');
  expect(await dumpControls(cluster)).toEqual(before);
  expect(await emergencyStatus(instance)).toMatchObject({ stopped: false });
});

test('hard without --yes and without a terminal - is refused, nothing is changed', async () => {
  await begin();
  const done = await instance.run(['emergency', 'stop-writes', '--level', 'hard']);
  expect(failureOf(done)).toMatchObject({ exitCode: 4, code: 'CONFIRMATION_REQUIRED' });
  expect(await dumpControls(cluster)).toEqual(before);
});

test('a user that is no superuser - is told every right that is missing, and stops writes with them', async () => {
  await cluster.query('create role limited login');
  const config = await readFile(instance.configFile, 'utf8');
  await writeFile(instance.configFile, config.replace('//postgres@', '//limited@'));
  try {
    await begin();
    const refused = failureOf(await instance.run(stopArgs()));
    expect(refused).toMatchObject({ exitCode: 8, code: 'DATABASE_DENIED' });
    expect(failureOf(await instance.run(stopArgs('--level', 'hard')))).toMatchObject({
      code: 'DATABASE_DENIED',
      message: expect.stringContaining("'limited' is not a superuser"),
    });
    expect(await dumpControls(cluster)).toEqual(before);
    const grants = refused.hint.slice(refused.hint.indexOf('GRANT'));
    for (const statement of grants.split(';').filter(text => text.trim() !== ''))
      await cluster.query(statement);
    before = await dumpControls(cluster);
    const report = await stopWrites(instance);
    expect(report.problems.join()).toMatch(/only a superuser could stop these.*app/);
    expect(await tryWrite('limited', 'postgres')).toBe('25006');
    await resumeWrites(instance);
    expect(await dumpControls(cluster)).toEqual(before);
  } finally {
    await writeFile(instance.configFile, config);
    await cluster.query('drop owned by limited');
    await cluster.query('drop role limited');
  }
});

test('a pg_hba.conf that lets us in nowhere but two databases - the one without tables stays open, the file is left alone', async () => {
  await begin();
  const path = join(cluster.dataDirectory, 'pg_hba.conf');
  const original = await readFile(path, 'utf8');
  const shop = await cluster.connect('shop');
  await shop.query('create table goods (a int)');
  const config = await readFile(instance.configFile, 'utf8');
  await writeFile(instance.configFile, config.replace(/\/postgres(\s)/, '/shop$1'));
  await writeFile(path, 'host shop,postgres postgres 127.0.0.1/32 trust # ours\nhost all all all reject\n');
  await cluster.query('select pg_reload_conf()');
  try {
    before = await dumpControls(cluster);
    const report = await stopWrites(instance, '--level', 'hard');
    expect(report).toMatchObject({ problems: [], plan: { controlDatabase: 'postgres' } });
    expect(await tryWrite('postgres', 'shop')).toBe('55000');
    expect(await emergencyStatus(instance)).toMatchObject({ inEffect: true, problems: [] });
    await resumeWrites(instance);
    expect(await dumpControls(cluster)).toEqual(before);
  } finally {
    await writeFile(path, original);
    await cluster.query('select pg_reload_conf()');
    await writeFile(instance.configFile, config);
  }
});

test('a configuration file with a mistake - all roles are made read-only instead; strict is refused', async () => {
  await begin();
  const path = join(cluster.dataDirectory, 'postgresql.conf');
  const original = await readFile(path, 'utf8');
  await appendFile(path, 'no_such_setting = on\n');
  try {
    before = await dumpControls(cluster);
    const refused = await instance.run(stopArgs('--level', 'strict'));
    expect(failureOf(refused)).toMatchObject({
      exitCode: 4,
      code: 'STOP_REFUSED',
      message: expect.stringContaining('no_such_setting'),
    });
    const report = await stopWrites(instance);
    expect(report.problems.join()).toMatch(/all roles are made read-only/);
    expect(await tryWrite('app', 'postgres')).toBe('25006');
    await resumeWrites(instance);
    expect(await dumpControls(cluster)).toEqual(before);
  } finally {
    await writeFile(path, original);
    await cluster.query('select pg_reload_conf()');
  }
});

test('unlogged tables with rows - strict refuses to lose them, unless told', async () => {
  await begin();
  await cluster.query('create unlogged table session_cache as select generate_series(1, 10) a');
  await cluster.query('create unlogged table empty_cache (a int)');
  const refused = failureOf(await instance.run(stopArgs('--level', 'strict')));
  expect(refused).toMatchObject({ exitCode: 4, code: 'STOP_REFUSED' });
  expect(refused.message).toMatch(/postgres\.public\.session_cache$/);
  expect(await dumpControls(cluster)).toEqual(before);
  await stopWrites(instance, '--level', 'strict', '--lose-unlogged');
  await resumeWrites(instance);
  expect(await cluster.query('select count(*)::int from session_cache')).toEqual([{ count: 0 }]);
  await cluster.query('drop table session_cache, empty_cache');
});

test('a server that was a standby once - its old settings do not lead it anywhere, and come back', async () => {
  await cluster.query("alter system set primary_conninfo = 'host=127.0.0.1 port=1 user=''x'''");
  await cluster.query("alter system set restore_command = 'touch ../fetched; false'");
  await cluster.query("alter system set recovery_target_time = '2020-01-01 00:00:00+00'");
  await cluster.restart();
  try {
    await begin();
    const report = await stopWrites(instance, '--level', 'strict');
    expect(report).toMatchObject({ problems: [], proof: { inRecovery: true } });
    expect(report.changes).toContainEqual(
      expect.objectContaining({ name: 'recovery_target_time', before: '2020-01-01 00:00:00+00' }),
    );
    await resumeWrites(instance);
    expect(await dumpControls(cluster)).toEqual(before);
    await expect(readFile(instance.path('fetched'))).rejects.toThrow();
    expect(await cluster.query('select timeline_id from pg_control_checkpoint()')).toEqual([
      { timeline_id: 1 },
    ]);
  } finally {
    for (const name of ['primary_conninfo', 'restore_command', 'recovery_target_time'])
      await cluster.query(`alter system reset ${name}`);
    await cluster.restart();
  }
});

test('a subscription - is disabled while writes are stopped', async () => {
  const shop = await cluster.connect('shop');
  await shop.query(
    "create subscription feed connection 'host=127.0.0.1 port=1' publication p with (connect = false, slot_name = 'feed')",
  );
  await shop.query('alter subscription feed enable');
  await begin();
  const enabled = 'select subenabled from pg_subscription';
  await stopWrites(instance, '--level', 'hard');
  await using aside = await connectTo('template1');
  expect((await aside.client.query(enabled)).rows).toEqual([{ subenabled: false }]);
  await resumeWrites(instance);
  expect(await dumpControls(cluster)).toEqual(before);
  const after = await cluster.connect('shop');
  await after.query(
    'alter subscription feed disable; alter subscription feed set (slot_name = none); drop subscription feed',
  );
});

async function connectTo(database: string) {
  const client = await cluster.connect(database).catch(() => cluster.connect('postgres'));
  return { client, [Symbol.asyncDispose]: () => client.end() };
}

test("aishell's own sessions and replication - go on at hard", async () => {
  await begin();
  const pg = (await import('pg')).default;
  const own = new pg.Client({ ...cluster.connection, database: 'shop', application_name: 'aishell guard' });
  const stream = new pg.Client({ ...cluster.connection, replication: 'true' } as object);
  for (const client of [own, stream]) await client.connect();
  await own.query('begin isolation level repeatable read read only; select 1 from pg_class limit 1');
  await stopWrites(instance, '--level', 'hard');
  expect((await own.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  expect((await stream.query('IDENTIFY_SYSTEM')).rows).toHaveLength(1);
  // A restart ends them, and that is said before it is done.
  const strict = await stopWrites(instance, '--level', 'strict', '--dry-run');
  expect(strict.problems.join()).toMatch(/'aishell guard' holds a snapshot/);
  for (const client of [own, stream]) await client.end();
  await resumeWrites(instance);
  expect(await dumpControls(cluster)).toEqual(before);
});

test('the connection is lost half way - the error says how to go on, and a second run does', async () => {
  const [reached, go] = [instance.path('reached'), instance.path('go')];
  await begin([
    'hooks:',
    `  - { command: 'touch ${reached}; while [ ! -e ${go} ]; do sleep 0.05; done', when: before, step: terminate, timeout: 60s }`,
  ]);
  const running = instance.start(stopArgs());
  while (!existsSync(reached)) await sleep(50);
  await cluster.query(
    "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name like 'aishell emergency%'",
  );
  await writeFile(go, '');
  const lost = failureOf(await running.done);
  expect(lost).toMatchObject({ code: 'DATABASE_UNREACHABLE', exitCode: 8 });
  expect(lost.hint).toMatch(/on record: run it again to go on, or `aishell emergency resume-writes`/);
  expect(await emergencyStatus(instance)).toMatchObject({ stopped: true });
  expect(await stopWrites(instance)).toMatchObject({
    already: true,
    problems: [],
    proof: { transactions: 0 },
  });
  await resumeWrites(instance);
  expect(await dumpControls(cluster)).toEqual(before);
});

test('hooks - run around steps with the facts and without secrets; one that fails or hangs stops nothing', async () => {
  const log = instance.path('hooks.log');
  await begin([
    'hooks:',
    `  - { command: 'echo "$AISHELL_ACTION $AISHELL_WHEN $AISHELL_STEP $AISHELL_LEVEL $AISHELL_REASON $PGPASSWORD." >> ${log}' }`,
    "  - { command: 'exit 3', when: before, step: read-only }",
    "  - { command: 'sleep 60', when: after, step: terminate, timeout: 1s }",
  ]);
  const done = await instance.run(stopArgs('--reason', 'a drill'), { env: { PGPASSWORD: 'geheim' } });
  expect(done.exitCode).toBe(3);
  const report = reportOf<{ problems: string[] }>(done);
  expect(report.problems).toEqual([
    expect.stringContaining("before 'read-only' failed: exit code 3"),
    expect.stringContaining("after 'terminate' failed"),
  ]);
  const lines = (await readFile(log, 'utf8')).split('\n');
  expect(lines.slice(0, 2)).toEqual([
    'stop before record soft a drill .',
    'stop after record soft a drill .',
  ]);
  expect(await tryWrite('postgres', 'shop')).toBe('25006');
});

test("a maintenance page of somebody else's - is used and stays", async () => {
  const page = instance.path('page.html');
  await writeFile(page, 'theirs');
  await begin([`maintenance_file: ${page}`]);
  await stopWrites(instance);
  expect(await emergencyStatus(instance)).toMatchObject({ maintenance: 'not ours' });
  await resumeWrites(instance);
  expect(await readFile(page, 'utf8')).toBe('theirs');
  expect(await dumpControls(cluster)).toEqual(before);
});

test('somebody changes a setting meanwhile - it is left and told, the rest is put back', async () => {
  await begin();
  await stopWrites(instance);
  await cluster.query("alter system set autovacuum = 'on'");
  expect(await emergencyStatus(instance)).toMatchObject({ inEffect: false });
  const done = await instance.run(['emergency', 'resume-writes']);
  expect(done.exitCode).toBe(3);
  const report = reportOf<{ problems: string[]; writable: boolean }>(done);
  expect(report.problems).toEqual([
    expect.stringContaining('the setting autovacuum was changed by somebody meanwhile'),
  ]);
  expect(report.writable).toBe(true);
  expect(await cluster.query("select setting from pg_file_settings where name = 'autovacuum'")).toEqual([
    { setting: 'on' },
  ]);
  await cluster.query('alter system reset autovacuum');
  await cluster.query('select pg_reload_conf()');
  expect(await dumpControls(cluster)).toEqual(before);
});

test('the repository is out of reach - writes are stopped and resumed from the record on this machine', async () => {
  await begin();
  const away = `${instance.repository}.away`;
  await rename(instance.repository, away);
  const report = await stopWrites(instance).finally(() => rename(away, instance.repository));
  expect(report.problems.join()).toMatch(/the record is on this machine alone/);
  expect(await tryWrite('postgres', 'shop')).toBe('25006');
  await resumeWrites(instance);
  expect(await dumpControls(cluster)).toEqual(before);
});

test('this machine has no record - another resumes from the repository', async () => {
  await begin();
  await stopWrites(instance, '--level', 'hard');
  await rm(instance.path('state'), { recursive: true });
  expect(await emergencyStatus(instance)).toMatchObject({ stopped: true, inEffect: true });
  await resumeWrites(instance);
  expect(await dumpControls(cluster)).toEqual(before);
  expect(await resumeWrites(instance)).toMatchObject({ resumed: false });
});

test('a record that is damaged, or of a newer version - is refused and named', async () => {
  await begin();
  await stopWrites(instance);
  const path = instance.path('state/shop.emergency.jsonl');
  const good = await readFile(path, 'utf8');
  for (const [text, code] of [
    [good.replace('"kind":"setting"', '"kind":"spell"'), 'UNSUPPORTED'],
    [good.replace('"format":1', '"format":2'), 'UNSUPPORTED'],
    [`${good.slice(0, 50)}\n`, 'CORRUPT'],
  ] as const) {
    await writeFile(path, text);
    expect(failureOf(await instance.run(['emergency', 'resume-writes']))).toMatchObject({ code });
  }
  await writeFile(path, `${good}{"mark":{"act`);
  await resumeWrites(instance);
  expect(await dumpControls(cluster)).toEqual(before);
});

test("a standby.signal of somebody else's - is refused before anything is changed, and stays; so is a standby", async () => {
  await begin();
  const signal = join(cluster.dataDirectory, 'standby.signal');
  await writeFile(signal, '', { mode: 0o600 });
  if (cluster.user !== null) await chown(signal, cluster.user.uid, cluster.user.gid);
  const refused = failureOf(await instance.run(stopArgs('--level', 'strict')));
  expect(refused).toMatchObject({
    exitCode: 4,
    code: 'STOP_REFUSED',
    message: expect.stringContaining(signal),
  });
  expect(await emergencyStatus(instance)).toMatchObject({ stopped: false });
  await cluster.restart();
  expect(failureOf(await instance.run(stopArgs()))).toMatchObject({ exitCode: 4, code: 'STOP_REFUSED' });
  await rm(signal);
  await cluster.restart();
  expect(await dumpControls(cluster)).toEqual(before);
});
