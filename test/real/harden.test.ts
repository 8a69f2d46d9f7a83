import type pg from 'pg';
import { expect, test } from 'vitest';
import { hardenedDatabase } from '../support/hardening.ts';
import { startTestCluster } from '../support/postgres.ts';

const WEIRD = '"We""ird"."Ta ble; drop"';

const schema = `
  create table users (id int primary key, name text);
  create table orders (id int primary key, user_id int references users on delete cascade);
  create view someone as select * from users;
  create table measurements (at int, value int) partition by range (at);
  create table early partition of measurements for values from (0) to (50);
  create table late partition of measurements for values from (50) to (1000);
  create table parent (a int); create table child () inherits (parent);
  create schema repack; create schema "We""ird"; create table ${WEIRD} ("Co""l" int, b int);
  insert into users select i, 'x' from generate_series(1, 100) i;
  insert into orders select i, 1 + i % 20 from generate_series(1, 100) i;
  insert into measurements select i, i from generate_series(1, 100) i;
  insert into parent select generate_series(1, 6); insert into child select generate_series(1, 6);
  insert into ${WEIRD} select i, i from generate_series(1, 11) i`;

/** Runs one statement and rolls it back; gives how many rows, `done` where none are counted, or the SQLSTATE of its refusal. */
async function attempt(client: pg.Client, sql: string): Promise<number | string> {
  await client.query('begin');
  try {
    const done: unknown = await client.query(sql);
    const last = (Array.isArray(done) ? done.at(-1) : done) as pg.QueryResult;
    return last.rowCount ?? 'done';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  } finally {
    await client.query('rollback');
  }
}

for (const version of [14, 15, 18] as const) {
  test(`${version}: ten rows for one statement - ten pass, eleven do not, unless it is meant`, async () => {
    await using cluster = await startTestCluster({ version, settings: { max_prepared_transactions: 2 } });
    await cluster.query('create database shop');
    const client = await cluster.connect('shop');
    await client.query(schema);
    const shop = await hardenedDatabase(cluster, 'shop');
    const done = await shop.apply('--rows', '10', '--measure', 'mass-write', '--measure', 'destructive-ddl');
    expect(done.problems).toEqual([]);
    expect(done.measures.map(({ state }) => state)).toEqual(['in force', 'in force']);

    const refused = 'Z0001';
    const writes: Record<string, number | string> = {
      'delete from users where id > 90': 10,
      'delete from users where id > 89': refused,
      'update users set name = $$y$$ where id <= 10': 10,
      'update users set name = $$y$$ where id <= 11': refused,
      'update someone set name = $$y$$': refused,
      [`delete from ${WEIRD} where b < 11`]: 10,
      [`delete from ${WEIRD}`]: refused,
      // Twenty users have five orders each: the cascade is counted as one.
      'delete from users where id in (1, 2)': 2,
      'delete from users where id in (1, 2, 3)': refused,
      'delete from measurements where at between 46 and 55': 10,
      'delete from measurements where at between 45 and 55': refused,
      'delete from early where at < 12': refused,
      // From one partition into the other.
      'update measurements set at = at + 20 where at between 41 and 50': 10,
      'update measurements set at = at + 20 where at between 40 and 50': refused,
      'delete from only parent': 6,
      'delete from parent': refused,
      'insert into users select i, $$z$$ from generate_series(1, 10) i on conflict (id) do update set name = excluded.name': 10,
      'insert into users select i, $$z$$ from generate_series(1, 11) i on conflict (id) do update set name = excluded.name':
        refused,
      'insert into users select i, $$z$$ from generate_series(1001, 2000) i': 1000,
      'with gone as (delete from users where id > 95 returning 1) delete from users where id between 86 and 90': 5,
      'with gone as (delete from users where id > 95 returning 1) delete from users where id between 85 and 90':
        refused,
      'with gone as (delete from users where id > 89 returning 1) select count(*) from gone': refused,
      // Each event is counted by itself.
      'with gone as (delete from users where id > 90 returning 1) update users set name = $$y$$ where id between 21 and 30': 10,
    };
    if (version >= 15) {
      const merge = (most: number): string =>
        `merge into users using generate_series(21, ${most}) n on n = id when matched and id > 30 then delete when matched then update set name = $$m$$`;
      writes[merge(40)] = 20;
      writes[merge(41)] = refused;
    }
    const outcomes: Record<string, unknown> = {};
    for (const sql of Object.keys(writes)) outcomes[sql] = await attempt(client, sql);
    expect(outcomes).toEqual(writes);

    const allow = 'set local aishell.allow_mass_write = on';
    expect(await attempt(client, `${allow}; delete from users`)).toBe(100);
    expect(await attempt(client, 'delete from users'), 'the allowance ends with its transaction').toBe(
      refused,
    );
    await client.query("set aishell.allow_mass_write = 'YES'");
    expect(await attempt(client, 'delete from users')).toBe(100);
    await client.query('set aishell.allow_mass_write = off');
    expect(await attempt(client, 'delete from users')).toBe(refused);
    await client.query('reset aishell.allow_mass_write');
    await client.query('set session_replication_role = replica');
    expect(await attempt(client, 'delete from orders')).toBe(100);
    await client.query('reset session_replication_role');
    await client.query(`begin; ${allow}; delete from orders; prepare transaction 'meant'`);
    await client.query("rollback prepared 'meant'");

    await expect(client.query('delete from users')).rejects.toMatchObject({
      message: 'DELETE of 100 rows of public.users refused',
      detail: expect.stringContaining('at most 10 rows'),
      hint: expect.stringContaining('SET LOCAL aishell.allow_mass_write = on'),
      schema: 'public',
      table: 'users',
    });

    const ddl: Record<string, string> = {
      'truncate users cascade': 'Z0002',
      'truncate measurements': 'Z0002',
      [`truncate ${WEIRD}`]: 'Z0002',
      'drop table orders': 'Z0003',
      'drop table users cascade': 'Z0003',
      'drop table early': 'Z0003',
      [`drop table ${WEIRD}`]: 'Z0003',
      'drop schema "We""ird" cascade': 'Z0003',
      'alter table users drop column name cascade': 'Z0003',
      [`alter table ${WEIRD} drop column "Co""l"`]: 'Z0003',
      'drop trigger aishell_mass_delete on users': 'Z0003',
      'drop function aishell_guard.refuse_truncate() cascade': 'Z0003',
    };
    for (const [sql, state] of Object.entries(ddl)) {
      expect(await attempt(client, sql), sql).toBe(state);
      const allowed = `set local aishell.allow_destructive_ddl = on; ${sql}`;
      expect(await attempt(client, allowed), sql).toBe('done');
    }
    await expect(client.query('drop schema "We""ird" cascade')).rejects.toMatchObject({
      message: `DROP SCHEMA refused: it would drop the table ${WEIRD}`,
      hint: expect.stringContaining('SET LOCAL aishell.allow_destructive_ddl = on'),
    });
    for (const sql of [
      'drop view someone',
      'create temporary table t (a int); drop table t',
      'alter table orders alter column id type bigint',
      'alter table users add column more int; create index on users (more)',
      'alter table measurements detach partition late',
      'create table repack.other (a int, b int); alter table repack.other drop column b; drop table repack.other',
    ])
      expect(await attempt(client, sql), sql).toBe('done');
    await client.query('vacuum full users; ');
    await client.query('begin; set local aishell.allow_destructive_ddl = on; drop table orders; commit');
    expect(await shop.states()).toMatchObject({ 'mass-write': 'in force', 'destructive-ddl': 'in force' });
  });
}
