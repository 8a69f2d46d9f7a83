import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { measureNames } from '../../src/operations/harden/measure.ts';
import {
  dumpProtection,
  hardenedDatabase,
  splitScript,
  untilEqual,
  untilWaiting,
} from '../support/hardening.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

/** A database whose name has to be quoted, with tables, roles and settings that somebody has made. */
const DATABASE = 'the "Shop"';
const QUOTED = '"the ""Shop"""';

async function prepare(cluster: TestCluster): Promise<void> {
  await cluster.query(`create database ${QUOTED}`);
  for (const statement of [
    'create role app login',
    'create role "Odd ""Name" login',
    'create role batch login',
    'alter role batch set statement_timeout = 0',
    'create role replica login replication',
    `alter role app in database ${QUOTED} set work_mem = '5MB'`,
    `alter database ${QUOTED} set log_statement = 'ddl'`,
    "alter system set log_line_prefix = '%m [%p] %q%u@%d '",
    'select pg_reload_conf()',
  ])
    await cluster.query(statement);
  const client = await cluster.connect(DATABASE);
  await client.query(`
    create table a (n int); create table b (n int); create table c (n int);
    create schema "S""x"; create table "S""x"."T T" (n int);
    create function touched() returns trigger language plpgsql as 'begin return null; end';
    create trigger own after delete on b execute function touched()`);
  await client.end();
}

const allInForce = Object.fromEntries(measureNames.map(name => [name, 'in force']));
const allOff = Object.fromEntries(measureNames.map(name => [name, 'off']));

for (const version of [14, 18] as const) {
  test(`${version}: all measures, applied twice, changed, and taken back - the catalogs are as they were before`, async () => {
    await using cluster = await startTestCluster({ version });
    await prepare(cluster);
    const dump = (): Promise<unknown> => dumpProtection(cluster, DATABASE);
    const shop = await hardenedDatabase(cluster, DATABASE);
    const before = await dump();
    expect(await shop.states()).toEqual(allOff);

    // What is shown changes nothing.
    expect((await shop.plan()).units.length).toBeGreaterThan(0);
    expect(await dump()).toEqual(before);
    const refused = await shop.run('harden', '--apply-recommendations', '--json');
    expect(refused.exitCode).toBe(4);
    expect(await dump()).toEqual(before);

    expect((await shop.apply()).problems).toEqual([]);
    expect(await shop.states()).toEqual(allInForce);
    const applied = await dump();
    expect(await shop.apply()).toMatchObject({ units: [], problems: [] });
    expect(await dump()).toEqual(applied);

    // Rows of it would stop subscribers of a publication for all tables.
    const own = "select relname from pg_class where relnamespace = 'aishell_guard'::regnamespace";
    const client = await cluster.connect(DATABASE);
    expect((await client.query(own)).rows).toEqual([]);
    await client.end();

    const roles = await cluster.query(
      `select coalesce(r.rolname, '') as role, unnest(setconfig) as setting from pg_db_role_setting left join pg_roles r on r.oid = setrole order by 1, 2`,
    );
    expect(roles.map(({ role, setting }) => `${role} ${setting}`)).toEqual([
      ' log_statement=mod',
      'Odd "Name idle_in_transaction_session_timeout=600s',
      'Odd "Name lock_timeout=60s',
      'Odd "Name statement_timeout=900s',
      'app idle_in_transaction_session_timeout=600s',
      'app lock_timeout=60s',
      'app statement_timeout=900s',
      'app work_mem=5MB',
      'batch idle_in_transaction_session_timeout=600s',
      'batch lock_timeout=60s',
      'batch statement_timeout=0',
    ]);
    const prefix = (): Promise<unknown> =>
      cluster.query("select reset_val from pg_settings where name = 'log_line_prefix'");
    const wanted = [{ reset_val: '%m [%p] %q%u@%d app=%a,client=%h ' }];
    expect(await untilEqual(prefix, wanted)).toEqual(wanted);

    // Other numbers, then back to none.
    expect(
      (await shop.apply('--rows', '5', '--statement-timeout', '2m', '--log-statement', 'ddl')).problems,
    ).toEqual([]);
    const changed = await shop.status();
    expect(changed.measures[0]?.notes).toEqual(['at most 5 rows for one statement on 4 tables']);
    expect(changed.measures.every(({ state }) => state === 'in force')).toBe(true);
    expect(await shop.apply('--tables', 'b', '--rows', '7')).toMatchObject({ problems: [] });
    expect((await shop.status()).measures[0]?.notes).toEqual([
      'at most 5 rows for one statement on 3 tables',
      'at most 7 rows for one statement on 1 table',
    ]);
    expect(await shop.apply()).toMatchObject({ units: [] });

    for (const measure of measureNames) {
      const done = await shop.revert('--measure', measure);
      expect(done.problems, measure).toEqual([]);
      expect(done.measures).toMatchObject([{ name: measure, since: null }]);
      // A server takes its configuration a moment after it is told to.
      const stateOf = async (): Promise<string | undefined> =>
        (await shop.status()).measures.find(({ name }) => name === measure)?.state;
      await expect.poll(stateOf, { timeout: 10_000 }).toBe('off');
    }
    expect(await untilEqual(dump, before)).toEqual(before);
    expect(await shop.revert()).toMatchObject({ units: [], problems: [] });

    await shop.apply();
    expect((await shop.revert()).problems).toEqual([]);
    expect(await untilEqual(dump, before)).toEqual(before);
  });
}

test('the script that is shown, run by hand - the same as applied, and taken back by its own script', async () => {
  await using cluster = await startTestCluster({ version: 17 });
  await prepare(cluster);
  const shop = await hardenedDatabase(cluster, DATABASE);
  const dump = (): Promise<unknown> => dumpProtection(cluster, DATABASE);
  const before = await dump();
  await shop.apply();
  const applied = await dump();
  const undo = await shop.run('harden', '--revert', '--dry-run');
  await shop.revert();
  expect(await untilEqual(dump, before)).toEqual(before);

  const script = (await shop.run('harden')).stdout;
  const byHand = async (text: string): Promise<void> => {
    const client = await cluster.connect(DATABASE);
    for (const statement of splitScript(text)) await client.query(statement);
    await client.end();
  };
  await byHand(script);
  expect(await untilEqual(dump, applied)).toEqual(applied);
  expect(await shop.states()).toEqual(allInForce);
  // Whoever runs it once more changes nothing but where a role would be made a second time.
  expect(await shop.apply()).toMatchObject({ units: [] });
  await byHand(undo.stdout);
  expect(await untilEqual(dump, before)).toEqual(before);

  if (!existsSync('/usr/bin/psql')) return;
  const { host, port, user } = cluster.connection;
  const psql = promisify(execFile);
  const pipe = (file: string): Promise<unknown> =>
    psql('/usr/bin/psql', [
      ...['-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', host, '-p', String(port), '-U', user],
      ...['-d', DATABASE, '-c', 'set client_min_messages = warning', '-f', file],
    ]);
  const { writeFile } = await import('node:fs/promises');
  const file = `${cluster.directory}/harden.sql`;
  await writeFile(file, script);
  await pipe(file);
  expect(await untilEqual(dump, applied)).toEqual(applied);
});

test('a table in use, one that goes, and a run that is killed there - the rest is done, and the next run completes it', async () => {
  await using cluster = await startTestCluster({ version: 15 });
  await prepare(cluster);
  const shop = await hardenedDatabase(cluster, DATABASE);
  const dump = (): Promise<unknown> => dumpProtection(cluster, DATABASE);
  const before = await dump();
  const busy = await cluster.connect(DATABASE);
  await busy.query('begin; lock table b in row exclusive mode');

  const killed = shop.start(['harden', '--apply-recommendations', '--yes']);
  await untilWaiting(cluster);
  killed.process.kill('SIGKILL');
  await killed.done;
  const half = await shop.status();
  expect(half.measures.map(({ state }) => state)).toEqual([
    'partly',
    'partly',
    'in force',
    'in force',
    'partly',
  ]);
  expect(half.measures[0]?.missing).toEqual(['public.b is not protected', 'public.c is not protected']);
  expect(half.problems.length).toBeGreaterThan(0);

  // The session of the killed run may hold its lock until the server notices.
  const again = await untilEqual(async () => {
    const report = await shop.apply().catch(() => null);
    return report?.problems.map(problem => problem.replace(/:.*/s, '')) ?? null;
  }, ['public.b']);
  expect(again).toEqual(['public.b']);
  expect(await shop.states()).toEqual({ ...allInForce, 'mass-write': 'partly', 'destructive-ddl': 'partly' });
  expect((await shop.run('status')).exitCode).toBe(3);

  const stuck = shop.start(['harden', '--revert', '--yes']);
  await busy.query('rollback; begin; lock table c in access share mode');
  await untilWaiting(cluster);
  stuck.process.kill('SIGKILL');
  await stuck.done;
  expect(await shop.states()).toMatchObject({ 'mass-write': 'partly', 'statement-timeout': 'off' });
  await busy.query('rollback');
  const done = await untilEqual(async () => (await shop.revert().catch(() => null))?.problems ?? null, []);
  expect(done).toEqual([]);
  expect(await untilEqual(dump, before)).toEqual(before);

  await busy.query('begin; lock table b in row exclusive mode');
  const late = shop.start(['harden', '--apply-recommendations', '--yes', '--measure', 'mass-write']);
  await untilWaiting(cluster);
  await busy.query('drop table b; commit');
  const told = await late.done;
  expect(told.exitCode).toBe(3);
  expect(told.stdout).toContain('public.b: it does not exist any more');
  expect(await shop.states()).toMatchObject({ 'mass-write': 'in force' });
});
