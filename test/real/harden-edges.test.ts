import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { dumpProtection, hardenedDatabase, untilEqual } from '../support/hardening.ts';
import { failureOf } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

async function shopOf(cluster: TestCluster, owner = cluster.connection.user): Promise<void> {
  await cluster.query(`create database shop owner ${owner}`);
  const client = await cluster.connect('shop');
  await client.query(
    `set role ${owner}; create table users (id int, name text); create table orders (id int);
     insert into users select i, 'x' from generate_series(1, 20) i`,
  );
  await client.end();
}

test('an owner who is no superuser - has what an owner can have, is told the rest, and takes it back', async () => {
  await using cluster = await startTestCluster({ version: 16 });
  await cluster.query('create role owner login');
  await shopOf(cluster, 'owner');
  const admin = await cluster.connect('shop');
  await admin.query('grant create on schema public to public; create table of_admin (a int)');
  const before = await dumpProtection(cluster, 'shop');
  const shop = await hardenedDatabase(cluster, 'shop', 'owner');

  const done = await shop.apply('--rows', '10');
  expect(done.problems).toEqual([]);
  expect(
    Object.fromEntries(done.measures.map(({ name, state, blocked }) => [name, blocked ?? state])),
  ).toEqual({
    'mass-write': 'partly',
    'destructive-ddl': 'partly',
    'read-only-role': 'this user may not make roles and grant pg_read_all_data to them',
    'statement-timeout': 'this user may not change the settings of these roles',
    'audit-logging': 'only a superuser can set log_statement',
  });
  expect(done.measures[1]?.missing).toEqual([
    'only a superuser can make an event trigger: without it TRUNCATE is refused, and DROP is not',
    'public.of_admin is not protected',
  ]);
  const owner = await cluster.connect('shop');
  await owner.query('set role owner');
  await expect(owner.query('delete from users')).rejects.toMatchObject({ code: 'Z0001' });
  await expect(owner.query('truncate users')).rejects.toMatchObject({ code: 'Z0002' });

  // Nobody else can take it over, and everybody can dump it.
  await cluster.query('create role other login; grant create on database shop to other');
  const other = await hardenedDatabase(cluster, 'shop', 'other');
  expect(failureOf(await other.run('harden', '--apply-recommendations', '--yes', '--json'))).toMatchObject({
    code: 'HARDEN_REFUSED',
    message: expect.stringContaining('belongs to owner'),
  });
  await admin.query('set role other');
  for (const statement of [
    "comment on schema aishell_guard is ''",
    "select aishell_guard.record('mass-write', null, null)",
    'alter table users disable trigger all',
  ])
    await expect(admin.query(statement), statement).rejects.toMatchObject({ code: '42501' });
  await admin.query('reset role');
  await admin.end();

  expect((await shop.revert()).problems).toEqual([]);
  await cluster.query('drop owned by other; revoke create on database shop from other; drop role other');
  expect(await dumpProtection(cluster, 'shop')).toEqual(before);
});

test('somebody has changed it since - the status names each, applying again makes it whole, and what is somebody else’s stays', async () => {
  await using cluster = await startTestCluster({ version: 17 });
  await cluster.query('create role app login; create role web login');
  await shopOf(cluster);
  const shop = await hardenedDatabase(cluster, 'shop');
  await shop.apply();
  const client = await cluster.connect('shop');
  const forged =
    "create or replace function aishell_guard.refuse_truncate() returns trigger language plpgsql as 'begin return null; end'";
  for (const statement of [
    'alter table users disable trigger aishell_mass_delete',
    forged,
    'alter event trigger aishell_refuse_drop disable',
    'alter event trigger aishell_protect_new_mass_write disable',
    'drop event trigger aishell_protect_new_destructive_ddl',
    'create table later (a int)',
    'create role newcomer login',
    "alter role app in database shop set statement_timeout = '5s'",
    'alter role web in database shop reset lock_timeout',
    "alter database shop set log_statement = 'none'",
    "alter system set log_line_prefix = 'mine %u %d %a %r '",
    'select pg_reload_conf()',
    'grant aishell_read_only to newcomer',
  ])
    await client.query(statement);
  const status = await shop.status();
  expect(Object.fromEntries(status.measures.map(({ name, missing }) => [name, missing]))).toEqual({
    'mass-write': [
      'tables made later are not protected: there is no event trigger',
      'public.later is not protected',
      'public.users is not protected',
    ],
    'destructive-ddl': [
      'the function refuse_truncate is not as it was made',
      'DROP is not refused: there is no event trigger',
      'tables made later are not protected: there is no event trigger',
      'public.later is not protected',
    ],
    'read-only-role': [],
    'statement-timeout': [
      'role newcomer has no statement_timeout, idle_in_transaction_session_timeout, lock_timeout',
      'role web has no lock_timeout',
    ],
    'audit-logging': ['log_statement is none in this database'],
  });
  const text = await shop.run('status');
  expect(text.exitCode).toBe(3);
  expect(text.stdout).toContain('role app keeps its own statement_timeout');

  expect((await shop.apply()).problems).toEqual([]);
  const again = await shop.status();
  expect(again.measures.map(({ state }) => state)).toEqual(Array(5).fill('in force'));
  expect(again.problems).toEqual([]);
  await expect(client.query('truncate later')).rejects.toMatchObject({ code: 'Z0002' });
  await expect(client.query('drop table later')).rejects.toMatchObject({ code: 'Z0003' });

  const member = await shop.revert();
  expect(member.problems).toEqual([
    expect.stringContaining('REVOKE aishell_read_only FROM newcomer'),
    'log_line_prefix was changed by somebody since, and stays as it is',
  ]);
  expect(member.measures.map(({ state }) => state)).toEqual(['off', 'off', 'in force', 'off', 'partly']);
  await client.query('revoke aishell_read_only from newcomer; grant select on users to aishell_read_only');
  expect((await shop.revert()).problems).toEqual([
    expect.stringContaining('DROP OWNED BY aishell_read_only'),
  ]);
  await client.query('revoke select on users from aishell_read_only');
  expect((await shop.revert()).problems).toEqual([]);
  const settings = await cluster.query('select unnest(setconfig) as setting from pg_db_role_setting');
  // Before it was applied again, log_statement was what somebody had set it to.
  expect(settings).toEqual([{ setting: 'statement_timeout=5s' }, { setting: 'log_statement=none' }]);
  expect(await cluster.query("select from pg_roles where rolname = 'aishell_read_only'")).toEqual([]);
  expect((await client.query("select from pg_namespace where nspname = 'aishell_guard'")).rows).toEqual([]);
  await client.end();
});

test('a copy of a hardened database - is protected, and taking that back leaves its origin alone', async () => {
  await using cluster = await startTestCluster({ version: 15 });
  await cluster.query('create role app login');
  await shopOf(cluster);
  const shop = await hardenedDatabase(cluster, 'shop');
  await shop.apply('--rows', '10');
  const origin = await dumpProtection(cluster, 'shop');
  await untilEqual(
    async () => (await cluster.query("select from pg_stat_activity where datname = 'shop'")).length,
    0,
  );
  await cluster.query('create database clone template shop');
  const copies = ['clone'];
  const dump = '/usr/bin/pg_dump';
  if (existsSync(dump) && existsSync('/usr/bin/psql')) {
    const { host, port, user } = cluster.connection;
    const file = `${cluster.directory}/shop.sql`;
    const place = ['-h', host, '-p', String(port), '-U', user];
    const run = promisify(execFile);
    await run(dump, [...place, '-f', file, 'shop']);
    await cluster.query('create database restored');
    await run('/usr/bin/psql', [...place, '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', file, 'restored']);
    copies.push('restored');
  }
  for (const name of copies) {
    const copy = await hardenedDatabase(cluster, name);
    const client = await cluster.connect(name);
    await expect(client.query('delete from users'), name).rejects.toMatchObject({ code: 'Z0001' });
    await expect(client.query('drop table users'), name).rejects.toMatchObject({ code: 'Z0003' });
    await client.end();
    expect(await copy.states(), name).toEqual({
      'mass-write': 'in force',
      'destructive-ddl': 'in force',
      'read-only-role': 'in force',
      'statement-timeout': 'partly',
      'audit-logging': 'partly',
    });
    if (name === 'clone') expect((await copy.apply()).problems).toEqual([]);
    expect((await copy.revert()).problems, name).toEqual([]);
    expect(await copy.states(), name).toMatchObject({ 'mass-write': 'off', 'statement-timeout': 'off' });
  }
  expect(await dumpProtection(cluster, 'shop')).toEqual(origin);
  expect(await shop.status()).toMatchObject({ problems: [] });
});

test('tables by name, foreign partitions, and what is no table - protected, left out, refused', async () => {
  await using cluster = await startTestCluster({ version: 18 });
  await shopOf(cluster);
  const client = await cluster.connect('shop');
  await client.query(`
    create extension postgres_fdw;
    create server elsewhere foreign data wrapper postgres_fdw options (dbname 'shop');
    create table parts (a int) partition by range (a);
    create foreign table far partition of parts for values from (0) to (10) server elsewhere;
    create table near partition of parts for values from (10) to (20);
    create schema s1; create schema s2; create table s1.twin (a int); create table s2.twin (a int);
    create table "Upper" (a int); create view seen as select * from users`);
  const shop = await hardenedDatabase(cluster, 'shop');
  const only = ['--measure', 'mass-write'];
  const refusal = async (...args: string[]): Promise<object> =>
    failureOf(await shop.run('harden', '--json', ...args));
  expect(await refusal('--tables', 'user')).toMatchObject({ exitCode: 2, hint: "Did you mean 'users'?" });
  expect(await refusal('--tables', 'twin')).toMatchObject({
    exitCode: 2,
    hint: expect.stringContaining('s1.twin, s2.twin'),
  });
  expect(await refusal('--tables', 'seen')).toMatchObject({ exitCode: 2 });
  expect(await refusal('--tables', 'users', '--all-tables')).toMatchObject({ exitCode: 2, code: 'USAGE' });
  expect(await refusal('--rows', '0')).toMatchObject({ exitCode: 2 });
  expect(await refusal('--measure', 'magic')).toMatchObject({ exitCode: 2 });
  expect(await refusal('--statement-timeout', '5x')).toMatchObject({ exitCode: 2 });
  expect(await refusal('--revert', '--rows', '5')).toMatchObject({ exitCode: 2 });
  expect(await refusal('--database', 'nowhere')).toMatchObject({ exitCode: 8 });

  await cluster.query('alter database shop set default_transaction_read_only = on');
  expect(await refusal()).toMatchObject({
    exitCode: 4,
    code: 'HARDEN_REFUSED',
    hint: expect.stringContaining('resume-writes'),
  });
  await cluster.query('alter database shop reset default_transaction_read_only');

  const protectedTables = async (): Promise<string[]> =>
    (
      await client.query(
        "select tgrelid::regclass::text as name from pg_trigger where tgname = 'aishell_mass_delete' order by 1",
      )
    ).rows.map(({ name }) => name);
  await shop.apply(...only, '--tables', 's1.twin,"Upper"');
  expect(await protectedTables()).toEqual(['"Upper"', 's1.twin']);
  expect(await shop.states()).toMatchObject({ 'mass-write': 'in force' });
  await shop.apply(...only, '--tables', 'users');
  expect(await protectedTables()).toEqual(['"Upper"', 's1.twin', 'users']);
  expect(await shop.apply(...only)).toMatchObject({ units: [] });
  await shop.apply(...only, '--all-tables');
  expect(await protectedTables()).toEqual(['"Upper"', 'near', 'orders', 's1.twin', 's2.twin', 'users']);
  const [status] = (await shop.status()).measures;
  expect(status).toMatchObject({ state: 'in force', missing: [] });
  expect(status?.notes).toContainEqual(expect.stringContaining('public.parts is left out'));
  // Everything but the root was taken: a statement on it still works.
  await client.query('delete from parts where a >= 10');
  await client.end();
});

test('a publication for all tables - its subscriber hears nothing of it, and applies what was meant, itself protected or not', async () => {
  await using cluster = await startTestCluster({ version: 17, settings: { wal_level: 'logical' } });
  await shopOf(cluster);
  const shop = await cluster.connect('shop');
  await shop.query('alter table users add primary key (id); create publication everything for all tables');
  await shop.query("select pg_create_logical_replication_slot('everything', 'pgoutput')");
  await cluster.query('create database reports');
  const reports = await cluster.connect('reports');
  await reports.query('create table users (id int primary key, name text); create table orders (id int)');
  const { host, port, user } = cluster.connection;
  await reports.query(
    `create subscription everything connection 'host=${host} port=${port} user=${user} dbname=shop'
     publication everything with (create_slot = false, slot_name = 'everything')`,
  );
  const rows = async (): Promise<unknown> => (await reports.query('select count(*)::int from users')).rows;
  expect(await untilEqual(rows, [{ count: 20 }])).toEqual([{ count: 20 }]);

  for (const database of ['shop', 'reports']) {
    const done = await (await hardenedDatabase(cluster, database)).apply('--rows', '10');
    expect(done.problems).toEqual([]);
  }
  await expect(reports.query('delete from users')).rejects.toMatchObject({ code: 'Z0001' });
  await shop.query('begin; set local aishell.allow_mass_write = on; delete from users where id > 5; commit');
  expect(await untilEqual(rows, [{ count: 5 }])).toEqual([{ count: 5 }]);
  await shop.query('begin; set local aishell.allow_destructive_ddl = on; truncate users; commit');
  expect(await untilEqual(rows, [{ count: 0 }])).toEqual([{ count: 0 }]);
  await reports.query('alter subscription everything disable');
  await reports.query('alter subscription everything set (slot_name = none); drop subscription everything');
});
