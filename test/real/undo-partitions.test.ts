import type pg from 'pg';
import { expect, test } from 'vitest';
import { protect } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';
import { commit, rowsOf, undo } from '../support/undo.ts';

const SCHEMA = `
  create table users (id int primary key);
  create table events (id bigint generated always as identity, number serial, "user" int references users, day date,
                       note text not null default 'none' check (note <> ''), primary key (id, day)) partition by range (day);
  create table events_jan partition of events for values from ('2026-01-01') to ('2026-02-01');
  create table events_feb partition of events for values from ('2026-02-01') to ('2026-03-01') partition by hash (id);
  create table "feb 0" partition of events_feb for values with (modulus 2, remainder 0);
  create table "feb 1" partition of events_feb for values with (modulus 2, remainder 1);
  create table events_rest partition of events default;
  create index on events (note);
  create index of_jan on events_jan ("user");
  alter table events_jan add constraint only_jan check (number > 0);
  create function stamp() returns trigger language plpgsql as $$ begin return new; end $$;
  create trigger stamped before insert on events for each row execute function stamp();
  create trigger own before update on events_jan for each row execute function stamp();
  comment on table events is 'what happened';
  comment on table events_jan is 'in january';
  insert into users select n from generate_series(1, 50) n;
  insert into events ("user", day, note) select 1 + n % 50, date '2026-01-01' + n % 59, 'n' || n from generate_series(1, 600) n;
  insert into events ("user", day) values (1, '2027-01-01')`;

/** All that there is to say about the tree of partitions but numbers of objects. */
async function treeOf(client: pg.Client): Promise<unknown> {
  const { rows } = await client.query(`
    select c.relname, c.relkind, c.relispartition, pg_get_expr(c.relpartbound, c.oid) as bound, pg_get_partkeydef(c.oid) as key,
      (select p.relname from pg_inherits i join pg_class p on p.oid = i.inhparent where i.inhrelid = c.oid) as parent,
      obj_description(c.oid, 'pg_class') as comment,
      (select json_agg(json_build_array(attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
                                        pg_get_expr(adbin, adrelid), attinhcount) order by attname)
       from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
       where attrelid = c.oid and attnum > 0) as columns,
      (select json_agg(json_build_array(conname, pg_get_constraintdef(oid), coninhcount) order by conname)
       from pg_constraint where conrelid = c.oid and contype <> 'n') as constraints,
      (select json_agg(json_build_array(pg_get_indexdef(indexrelid), indisvalid,
                                        exists (select from pg_inherits where inhrelid = indexrelid))
                       order by pg_get_indexdef(indexrelid))
       from pg_index where indrelid = c.oid) as indexes,
      (select json_agg(json_build_array(tgname, tgparentid <> 0) order by tgname) from pg_trigger
       where tgrelid = c.oid and (not tgisinternal or tgparentid <> 0) and tgfoid = 'stamp'::regproc) as triggers
    from pg_class c where c.relname ~ '^(events|feb)' and c.relkind in ('r', 'p') order by 1`);
  return rows;
}

test.each([14, 16, 18] as const)(
  'PostgreSQL %i, a partition is dropped, then all of the table - it is a partition again, with rows and all that belonged to it',
  async version => {
    await using cluster = await startTestCluster({ version, settings: { autovacuum: 'off' } });
    const instance = await protect(cluster);
    await cluster.query('create database shop');
    const client = await cluster.connect('shop');
    await client.query(SCHEMA);
    await instance.backup();
    const tree = await treeOf(client);
    const rows = await rowsOf(client, 'events');

    const one = await commit(client, 'drop table events_jan');
    await client.query(`insert into events ("user", day, note) values (2, '2026-02-03', 'later')`);
    const first = await undo(instance, ['--xid', String(one)]);
    expect(first.problems).toEqual([]);
    expect(first.tables).toMatchObject([{ table: 'events_jan', act: 'drop' }]);
    expect(await treeOf(client)).toEqual(tree);
    await client.query("delete from events where note = 'later'");
    expect(await rowsOf(client, 'events')).toEqual(rows);

    // What was made anew is known by its name from the next catalog on.
    await instance.backup();
    // The whole tree, and rows that it refers to.
    const all = await commit(client, 'drop table events', 'delete from users where id <= 10');
    const second = await undo(instance, ['--xid', String(all)]);
    expect(second.problems).toEqual([]);
    expect(second.tables.map(({ table }) => table).sort()).toEqual([
      ...['events_jan', 'events_rest', 'feb 0', 'feb 1', 'users'],
    ]);
    expect(await treeOf(client)).toEqual(tree);
    expect(await rowsOf(client, 'events')).toEqual(rows);
    await expect(client.query('insert into events ("user", day) values (99, now())')).rejects.toThrow(
      /violates foreign key/,
    );
    await client.query(`insert into events ("user", day, note) values (3, '2026-01-04', 'new')`);
    const { rows: again } = await client.query(
      `select count(*)::int as n, count(distinct id)::int as ids from events`,
    );
    expect(again).toEqual([{ n: rows.length + 1, ids: rows.length + 1 }]);

    // Run once more, there is nothing to do.
    const third = await undo(instance, ['--xid', String(all)]);
    expect(third.undone?.every(({ inserted, setBack }) => inserted + setBack === 0)).toBe(true);

    await instance.backup();
    // Where its place is taken by now, its rows are back in a table beside, and the statement is told.
    const late = await commit(client, 'drop table events_jan');
    await client.query(`insert into events ("user", day) values (1, '2026-01-05')`);
    const beside = await undo(instance, ['--xid', String(late)], [3]);
    expect(beside.problems).toEqual([
      expect.stringContaining(
        `to be done by hand: alter table public.events attach partition public.events_jan FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')`,
      ),
    ]);
    await client.query("delete from events where day = '2026-01-05' and note = 'none'");
    expect((await undo(instance, ['--xid', String(late)])).problems).toEqual([]);
    expect(await treeOf(client)).toEqual(tree);
  },
);
