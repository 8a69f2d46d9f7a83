import type pg from 'pg';
import { expect, test } from 'vitest';
import { protect } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { loadTraffic } from '../support/traffic.ts';
import { commit, holdSnapshot, rowsOf, storeIncident, undo } from '../support/undo.ts';

/** Tables of every kind that has a trap of its own. */
const SCHEMA = `
  create schema "odd ""schema";
  create type mood as enum ('sad', 'ok');
  create table "odd ""schema"."Odd, name" ("the key" text primary key, "select" mood, "a ""b" text);
  create table people (id int generated always as identity primary key, name text not null,
                       shout text generated always as (upper(name)) stored, at timestamptz default now());
  create table pets (id serial primary key, owner int not null references people on delete cascade, name text);
  create table visits (pet int not null references pets on delete cascade, on_day date, note text,
                       primary key (on_day, pet));
  create table logged (what text);
  create function log_it() returns trigger language plpgsql as
    $$ begin insert into public.logged values (tg_op || ' ' || tg_table_name); return coalesce(new, old); end $$;
  create trigger people_log after insert or update or delete on people for each row execute function log_it();
  create table events (id bigint not null, at date not null, body jsonb, primary key (id, at)) partition by range (at);
  create table events_1 partition of events for values from ('2026-01-01') to ('2026-02-01');
  create table events_2 partition of events for values from ('2026-02-01') to ('2026-03-01');
  create table prose (id int primary key, body text, packed text);
  alter table prose alter packed set storage external;
  create table readings (sensor int, value float8, at timestamptz);
  create table values_of_all_kinds (id uuid primary key, f float8, n numeric, b bytea, x xml, j json, p point, r int4range,
                                    a text[], i interval, bits varbit, net inet, t time with time zone);
  create table parts (a int, b text collate "C", c int, primary key (a, b));
  insert into "odd ""schema"."Odd, name"
    select E'k\\t\\n\\\\' || n, case when n % 2 = 0 then 'ok'::mood end, null from generate_series(1, 50) n;
  insert into people (name) select 'p' || n from generate_series(1, 400) n;
  insert into pets (owner, name) select 1 + n % 400, 'pet ' || n from generate_series(1, 900) n;
  insert into visits select n, date '2026-01-01' + n % 300, repeat('v', n % 50) from generate_series(1, 900) n;
  insert into events select n, date '2026-01-01' + n % 59, jsonb_build_object('n', n) from generate_series(1, 600) n;
  insert into prose select n, repeat(md5(n::text), 500), repeat(md5(n::text), 300) from generate_series(1, 40) n;
  insert into readings select n % 7, n % 3 / 3.0, date '2026-01-01' from generate_series(1, 300) n;
  insert into values_of_all_kinds select gen_random_uuid(), random() / 3, random()::numeric * 1e20,
    decode(md5(n::text), 'hex'), '<a>1</a>', '{"a": 1.50}', point(n, 0.1), int4range(n, n + 3), array['a', null, '"'],
    n * interval '1.5 seconds', B'1010', '10.0.0.1/8', '12:00:00.5+02' from generate_series(1, 30) n;
  insert into parts select n % 10, 'b' || n, n from generate_series(1, 200) n;
  truncate logged`;

const TABLES = [
  '"odd ""schema"."Odd, name"',
  ...['people', 'pets', 'visits', 'events', 'prose', 'readings', 'values_of_all_kinds', 'parts', 'logged'],
];

/** Takes something from every table, and takes some of it back. */
const DISASTER = [
  'savepoint kept',
  'delete from people where id <= 250',
  'release kept',
  'savepoint undone',
  'delete from parts',
  'delete from readings',
  "update prose set body = 'rolled back'",
  'rollback to undone',
  'delete from "odd ""schema"."Odd, name"',
  'delete from events where id % 2 = 0',
  "update events set body = '{}' where id % 4 = 1",
  "update prose set body = 'gone', packed = null where id <= 30",
  'delete from prose where id > 20',
  'delete from readings where sensor in (1, 2)',
  'insert into readings values (1, 0, now())',
  'update values_of_all_kinds set f = 0, n = 0, b = null, x = null, j = null, a = null',
  'update parts set c = -c where a < 5',
  "insert into parts values (1, 'new', 1)",
  "delete from parts where b = 'new'",
  'delete from parts where a = 9',
];

async function stateOf(client: pg.Client): Promise<Record<string, string[]>> {
  const state: Record<string, string[]> = {};
  for (const table of TABLES) state[table] = await rowsOf(client, table);
  return state;
}

test.each([['snapshot', 16] as const, ['backup', 17] as const])(
  'one transaction takes from tables of every kind, while others write - from a %s (PostgreSQL %i) every row is back as it was',
  async (from, version) => {
    await using cluster = await startTestCluster({ version });
    const instance = await protect(cluster);
    await cluster.query('create database shop');
    const client = await cluster.connect('shop');
    await client.query(SCHEMA);
    await instance.backup();
    const before = await stateOf(client);
    const traffic = await loadTraffic(cluster, { clients: 1, database: 'shop' });
    await traffic.progress(10);
    await using snapshot = await holdSnapshot(cluster, 'shop');
    const xid = await commit(client, ...DISASTER);
    const damaged = await stateOf(client);
    await storeIncident(instance, { xid, snapshot: from === 'snapshot' ? snapshot : null });
    await client.query('insert into readings values (1, 0, now())');
    await client.query('vacuum');

    const preview = await undo(instance, ['latest', '--from', from, '--dry-run']);
    expect(preview).toMatchObject({ dryRun: true, undone: null, problems: [], triggers: [] });
    const later = await rowsOf(client, 'readings');
    expect(await stateOf(client)).toEqual({ ...damaged, readings: later });

    if (from === 'snapshot') {
      const some = await undo(instance, [
        'latest',
        '--tables',
        'events,"odd ""schema"."Odd, name"',
        '--dry-run',
      ]);
      expect(some.tables.map(each => each.table)).toEqual(['Odd, name', 'events_1', 'events_2']);
    }
    const report = await undo(instance, ['latest', '--from', from, '--batch', '100']);
    const { committed } = await traffic.stop();
    expect(report.source.kind).toBe(from === 'snapshot' ? 'snapshot' : 'side instance');
    expect(report.problems).toEqual([]);
    const counts = Object.fromEntries(report.tables.map(each => [each.table, each.destroyed]));
    expect(counts).toMatchObject({ 'Odd, name': 50, people: 250, prose: 40, readings: 86, parts: 120 });
    expect(counts['events_1']! + counts['events_2']!).toBe(450);
    expect(Object.keys(counts)).toHaveLength(10);
    expect(report.tables.map(each => each.destroyed)).toEqual(preview.tables.map(each => each.destroyed));
    expect(report.undone?.every(each => each.proof.equal)).toBe(true);
    expect(report.references?.checked).toBeGreaterThan(1);
    // What the transaction and others inserted stays; what a trigger wrote when rows were put back is not there.
    const after = await stateOf(client);
    expect(after['logged']).toEqual(damaged['logged']);
    expect({ ...after, logged: [], readings: [] }).toEqual({ ...before, logged: [], readings: [] });
    expect(after['readings']).toHaveLength(before['readings']!.length + 2);
    expect(after['readings']).toEqual(expect.arrayContaining(before['readings']!));
    expect((await client.query('select count(*)::int as n from history')).rows).toEqual([{ n: committed }]);

    const again = await undo(instance, ['latest', '--from', from]);
    expect(again.undone?.map(each => each.inserted + each.setBack)).toEqual(again.tables.map(() => 0));
    expect(await rowsOf(client, 'readings')).toEqual(after['readings']);
  },
);
