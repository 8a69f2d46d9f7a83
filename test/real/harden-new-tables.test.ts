import type pg from 'pg';
import { expect, test } from 'vitest';
import { dumpProtection, hardenedDatabase } from '../support/hardening.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

/** The triggers of ours, by table: `D`, `U`, `T` for those against DELETE, UPDATE, TRUNCATE. */
async function protections(client: pg.Client): Promise<Record<string, string>> {
  const { rows } = await client.query<{ name: string; events: string }>(`
    select format('%I.%I', n.nspname, c.relname) as name,
           coalesce(string_agg(case t.tgname when 'aishell_mass_delete' then 'D' when 'aishell_mass_update' then 'U'
                                             when 'aishell_truncate' then 'T' end, '' order by t.tgname), '') as events
    from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_trigger t on t.tgrelid = c.oid and t.tgname like 'aishell%'
    where c.relkind in ('r', 'p') and n.nspname !~ '^pg_(catalog|toast)' and n.nspname <> 'information_schema' group by 1`);
  return Object.fromEntries(
    rows.map(({ name, events }) => [name.replace(/^pg_temp_\d+/, 'pg_temp'), events]),
  );
}

async function prepare(cluster: TestCluster): Promise<void> {
  await cluster.query('create database shop');
  await cluster.query('create role app login');
  const client = await cluster.connect('shop');
  await client.query('create table users (id int); grant create on schema public to app');
  await client.query('grant create on database shop to app');
  await client.end();
}

for (const version of [14, 15, 16, 17, 18] as const) {
  test(`${version}: tables made after it was applied, by whatever command and by whom - protected at once; taken back, they are not`, async () => {
    await using cluster = await startTestCluster({ version });
    await prepare(cluster);
    const shop = await hardenedDatabase(cluster, 'shop');
    const before = await dumpProtection(cluster, 'shop');
    await shop.apply('--rows', '10', '--measure', 'mass-write', '--measure', 'destructive-ddl');

    const client = await cluster.connect('shop');
    // Somebody who may not put triggers of ours anywhere.
    await client.query('set role app');
    for (const statement of [
      'create table plain (id int)',
      'create table if not exists plain (id int)',
      'create table copied as select generate_series(1, 20) as id',
      'select 1 as id into selected',
      'create table whole (at int) partition by range (at)',
      'create table part partition of whole for values from (0) to (10)',
      'create table sub partition of whole for values from (10) to (20) partition by range (at)',
      'create table leaf partition of sub default',
      'create table heir () inherits (plain)',
      'create table "Od""d; drop table users" ("A b" int)',
      'create schema own create table inner_one (id int) create view seen as select 1 as one',
      'create temp table scratch (id int)',
      'create unlogged table fast (id int)',
    ])
      await client.query(statement);
    const made = Object.fromEntries(
      ['plain', 'copied', 'selected', 'whole', 'part', 'sub', 'leaf', 'heir', 'fast'].map(name => [
        `public.${name}`,
        'DUT',
      ]),
    );
    expect(await protections(client)).toEqual({
      'public.users': 'DUT',
      ...made,
      'public."Od""d; drop table users"': 'DUT',
      'own.inner_one': 'DUT',
      'pg_temp.scratch': '',
    });
    await expect(client.query('delete from copied')).rejects.toMatchObject({
      code: 'Z0001',
      detail: expect.stringContaining('at most 10 rows'),
    });
    await expect(client.query('truncate whole')).rejects.toMatchObject({ code: 'Z0002' });
    await expect(client.query('drop table part')).rejects.toMatchObject({ code: 'Z0003' });
    expect(await shop.states()).toMatchObject({ 'mass-write': 'in force', 'destructive-ddl': 'in force' });

    // Rolled back with its table; and one that cannot be protected is made all the same.
    await client.query('begin; create table never (id int); rollback');
    await client.query('reset role');
    const warnings: (string | undefined)[] = [];
    client.on('notice', notice => warnings.push(notice.message));
    await client.query(
      'begin; select aishell_guard.record(\'mass-write\', jsonb \'{"rows": "many", "tables": "all"}\', \'[]\')',
    );
    await client.query('create table odd (id int)');
    expect((await protections(client))['public.odd']).toBe('T');
    expect(warnings.join()).toContain('aishell could not protect public.odd (mass-write)');
    await client.query('rollback');

    // Of one measure, then of the other.
    expect((await shop.revert('--measure', 'destructive-ddl')).problems).toEqual([]);
    await client.query('create table counted (id int)');
    expect((await protections(client))['public.counted']).toBe('DU');
    expect((await shop.revert()).problems).toEqual([]);
    await client.query('create table free (id int)');
    expect(new Set(Object.values(await protections(client)))).toEqual(new Set(['']));
    await client.query(
      'drop schema own cascade; drop table plain, copied, selected, whole, heir, fast, counted, free, "Od""d; drop table users" cascade',
    );
    await client.end();
    expect(await dumpProtection(cluster, 'shop')).toEqual(before);
  });
}

test('only some tables are protected, or no superuser has applied it - those made later are left alone, or named', async () => {
  await using cluster = await startTestCluster({ version: 17 });
  await prepare(cluster);
  const some = await hardenedDatabase(cluster, 'shop');
  await some.apply('--tables', 'users', '--measure', 'mass-write', '--measure', 'destructive-ddl');
  const client = await cluster.connect('shop');
  await client.query('create table later (id int)');
  expect(await protections(client)).toEqual({ 'public.users': 'DUT', 'public.later': '' });
  expect(await some.states()).toMatchObject({ 'mass-write': 'in force', 'destructive-ddl': 'in force' });
  await some.revert();

  await client.query('drop table later, users; set role app; create table users (id int); reset role');
  const own = await hardenedDatabase(cluster, 'shop', 'app');
  await own.apply('--measure', 'mass-write', '--measure', 'destructive-ddl');
  await client.query('set role app; create table later (id int); reset role');
  expect((await protections(client))['public.later']).toBe('');
  expect((await own.status()).measures[0]?.missing).toEqual(['public.later is not protected']);
  // A superuser adds the event triggers. Functions that belong to somebody else are bound to his own tables only.
  const admin = await hardenedDatabase(cluster, 'shop');
  await admin.apply('--measure', 'mass-write', '--measure', 'destructive-ddl');
  await client.query(
    'create table of_admin (id int); set role app; create table of_app (id int); reset role',
  );
  expect(await protections(client)).toMatchObject({ 'public.of_admin': '', 'public.of_app': 'DUT' });
  await client.end();
});
