import { stat, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { startCli } from '../support/cli.ts';
import { failureOf, protect, resultOf, type TestInstance } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { changesOf, keptFiles, reportsOf, rowsOf, shopCounts, shopTables, sql } from '../support/sql.ts';

let cluster: TestCluster;
let instance: TestInstance;

beforeAll(async () => {
  cluster = await startTestCluster({ version: 18 });
  instance = await protect(cluster, { archiving: false });
});

beforeEach(async () => {
  await cluster.query('drop schema if exists public cascade; create schema public');
  await cluster.query(shopTables);
});

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
});

const full = { users: 3000, orders: 6000, notes: 100, audit: 0 };

test('values - are what the server writes, nothing is lost on the way', async () => {
  const query = `select 9223372036854775807 as big, 1.10::numeric as exact, '2025-01-02 03:04:05.123456'::timestamp as at,
                        '\\x00ff'::bytea as bytes, '{"b": 1.0}'::json as doc, null as nothing, array[1, 2] as list, 1 as list`;
  const done = await sql(instance, ['-c', query], { json: true });
  expect(rowsOf(done)).toEqual([
    {
      big: '9223372036854775807',
      exact: '1.10',
      at: '2025-01-02 03:04:05.123456',
      bytes: '\\x00ff',
      doc: '{"b": 1.0}',
      nothing: null,
      list: '{1,2}',
      list_2: '1',
    },
  ]);
  const text = await sql(instance, [query]);
  expect(text.exitCode).toBe(0);
  expect(text.stdout).toMatch(/│ 9223372036854775807 │ {2}1.10 │ .*│ NULL {4}│ \{1,2\} │ {4}1 │/);
});

test('a result without end - its first rows are shown, the rest is counted up to a bound', async () => {
  const done = await sql(instance, ['-c', 'select generate_series(1, 2000000000) as i', '--limit', '3'], {
    json: true,
  });
  expect(rowsOf(done)).toEqual([{ i: '1' }, { i: '2' }, { i: '3' }]);
  expect(reportsOf(done)[0]).toMatchObject({ hidden: { atLeast: true } });
  const few = await sql(instance, ['-c', 'select i from generate_series(1, 750) i']);
  expect(few.stdout).toMatch(/│ 200 │/);
  expect(few.stdout).not.toMatch(/│ 201 │/);
  expect(few.stdout).toContain('(200 rows, … 550 more: --limit 0 shows all)');
});

test('few rows - committed at once; cascades, triggers and the transaction are what really happened', async () => {
  const done = await sql(instance, ['-c', 'delete from users where id <= 7; select 1'], { json: true });
  const [report] = reportsOf(done);
  expect(report).toMatchObject({ outcome: 'committed', tag: 'DELETE 7', recovery: null, changedRows: 35 });
  expect(changesOf(report!)).toEqual({
    'public.users': [0, 0, 7],
    'public.orders': [0, 0, 14],
    'public.notes': [0, 7, 0],
    'public.audit': [7, 0, 0],
  });
  expect(await shopCounts(cluster)).toEqual({ users: 2993, orders: 5986, notes: 93, audit: 7 });
  const written = await cluster.query('select distinct xmin::text from audit');
  expect(written).toEqual([{ xmin: report!.xid }]);
  const outlook = done.json.find(line => line['topic'] === 'outlook')?.['facts'];
  expect(outlook).toMatchObject({
    estimates: [{ operation: 'Delete', table: 'public.users' }],
    sideEffects: {
      triggers: [{ table: 'public.users', trigger: 'note_delete' }],
      cascades: [
        { table: 'public.notes', action: 'set null' },
        { table: 'public.orders', action: 'delete' },
      ],
    },
  });
});

test.each([
  ['delete from users where id > 500', /changes \d[\d,]+ rows; more than 1,000/],
  ['delete from users', /DELETE without WHERE/],
  ['update users set name = name where 1 = 1', /does not say which rows/],
  ['truncate users cascade', /TRUNCATE empties users/],
  ['drop table orders', /DROP TABLE orders/],
  ['do $$ begin delete from orders; end $$', /changes 6,000 rows/],
  ['explain analyze delete from orders where id > 0', /changes 6,000 rows/],
  ['with d as (delete from orders returning *) select count(*) from d', /DELETE without WHERE/],
  ['prepare p as delete from orders; execute p', /DELETE without WHERE/],
  [
    'create function f() returns bigint language sql as $$ with d as (delete from orders returning 1) select count(*) from d $$; select f()',
    /changes 6,000 rows/,
  ],
  [
    'begin; delete from orders where id <= 600; delete from orders where id <= 1200; commit',
    /together change 1,200 rows/,
  ],
  [
    'merge into orders o using users u on o.user_id = u.id when matched then update set amount = 0',
    /changes 6,000 rows/,
  ],
  ['insert into audit (what) select $$x$$ from generate_series(1, 1001)', /changes 1,001 rows/],
])('%s, and nobody to ask - refused, and nothing is changed', async (statement, why) => {
  const failure = failureOf(await sql(instance, ['-c', statement], { json: true }));
  expect(failure).toMatchObject({ exitCode: 4, code: 'CONFIRMATION_REQUIRED' });
  expect(failure.message).toMatch(why);
  expect(failure.hint).toContain('--yes');
  expect(await shopCounts(cluster)).toEqual(full);
});

test('confirmed by a flag - runs, and gives the commands that take it back', async () => {
  const [before] = await cluster.query<{ lsn: string }>('select pg_current_wal_insert_lsn() as lsn');
  const done = await sql(instance, ['--yes', '-c', 'delete from users where id > 500'], { json: true });
  const [report] = reportsOf(done);
  expect(report).toMatchObject({ outcome: 'committed', tag: 'DELETE 2500' });
  expect(report!.reasons.join()).toMatch(/more than 1,000/);
  expect(await shopCounts(cluster)).toEqual({ users: 500, orders: 1000, notes: 100, audit: 2500 });
  const told = done.json.find(line => line['topic'] === 'statement');
  const flags = `--xid ${report!.xid} --config ${instance.configFile}`;
  expect(told?.['facts']).toMatchObject({
    commands: { undo: `aishell backup undo ${flags}`, restore: `aishell backup restore ${flags}` },
  });
  // The position is one before the transaction's own records.
  const [place] = await cluster.query<{ early: boolean; late: boolean }>(
    'select $1::pg_lsn >= $2::pg_lsn as early, $1::pg_lsn < pg_current_wal_insert_lsn() as late',
    [report!.recovery!.lsn, before!.lsn],
  );
  expect(place).toEqual({ early: true, late: true });
  const truncated = await sql(instance, ['--yes', 'truncate users cascade']);
  expect(truncated.stdout).toMatch(/public\.users: emptied\n/);
  expect(truncated.stdout).toMatch(/backup undo --xid \d+/);
});

test('a smaller limit, and a larger one - decide', async () => {
  const few = await sql(instance, ['--max-rows', '5', '-c', 'delete from orders where id <= 6'], {
    json: true,
  });
  expect(failureOf(few).code).toBe('CONFIRMATION_REQUIRED');
  const many = await sql(instance, ['--max-rows', '100000', '-c', 'delete from orders where id > 0'], {
    json: true,
  });
  expect(reportsOf(many)[0]).toMatchObject({ outcome: 'committed', tag: 'DELETE 6000', changedRows: 6000 });
});

test.each([
  ['delete from users where id > 500', { 'public.users': [0, 0, 2500] }],
  ['update users set balance = 0', { 'public.users': [0, 3000, 0] }],
  [
    'truncate users cascade',
    { 'public.users': [0, 0, 0], 'public.orders': [0, 0, 0], 'public.notes': [0, 0, 0] },
  ],
  ['drop table users cascade', { 'public.users': [0, 0, 0] }],
  [
    'do $$ begin truncate orders; insert into audit (what) values ($x$a$x$); end $$',
    { 'public.audit': [1, 0, 0] },
  ],
  ['begin; delete from orders; commit', { 'public.orders': [0, 0, 6000] }],
  ['insert into orders (user_id) values (1), (2) returning id', { 'public.orders': [2, 0, 0] }],
])('dry run of %s - says what it would do, and does nothing', async (statement, changes) => {
  const relations =
    'select oid::int, relname, relfilenode::int from pg_class where relnamespace = $1::regnamespace order by 1';
  const before = await cluster.query(relations, ['public']);
  const done = await sql(instance, ['--dry-run', '-c', statement], { json: true });
  resultOf(done);
  const reports = reportsOf(done);
  expect(reports.every(({ outcome }) => /^(dry run|done)$/.test(outcome))).toBe(true);
  expect(Object.assign({}, ...reports.map(changesOf))).toMatchObject(changes);
  expect(await shopCounts(cluster)).toEqual(full);
  expect(await cluster.query(relations, ['public'])).toEqual(before);
});

test('a dry run of several statements - each sees what those before it did, and nothing stays', async () => {
  const migration = `create table parts (id int primary key) partition by range (id);
    create table parts_1 partition of parts for values from (0) to (100);
    begin; insert into parts select generate_series(0, 99); rollback;
    begin; insert into parts select generate_series(0, 9); commit;
    alter table users add column part int references parts; update users set part = 3 where id <= 4;
    select count(*) from parts, users where part = 3; drop table orders; at_the_end`;
  const script = migration.replace('at_the_end', 'select 1 from orders');
  const done = await sql(instance, ['--dry-run', '-c', script], { json: true });
  expect(failureOf(done).message).toMatch(/relation "orders" does not exist \(statement 13 of 13\)/);
  expect(rowsOf(done)).toEqual([{ count: '40' }]);
  expect(await shopCounts(cluster)).toEqual(full);
  expect(await cluster.query("select 1 from pg_class where relname like 'parts%'")).toEqual([]);
  const whole = await sql(instance, ['--dry-run', '-c', migration.replace('; at_the_end', '')], {
    json: true,
  });
  expect(resultOf(whole)).toEqual({ statements: 12, committed: 0, changedRows: 114, leftOpen: false });
});

test('a dry run - shows keys, and rows that TRUNCATE would take', async () => {
  const deleted = await sql(instance, ['--dry-run', '-c', 'delete from users u where u.id > 500 -- most']);
  expect(deleted.stdout).toMatch(/for example: id=501; id=502; id=503; id=504; id=505/);
  expect(deleted.stdout).toMatch(/has to be confirmed: it changes 10,000 rows/);
  const truncated = await sql(instance, ['--dry-run', '-c', 'truncate orders']);
  expect(truncated.stdout).toContain('public.orders: emptied (6,000 rows)');
});

test.each([
  "copy users to program 'cat > /dev/null'",
  'vacuum users',
  'select pg_reload_conf()',
  'create database d',
])('dry run of %s, which no rollback takes back - refused before anything is run', async statement => {
  const failure = failureOf(
    await sql(instance, ['--dry-run', `delete from orders; ${statement}`], { json: true }),
  );
  expect(failure).toMatchObject({ exitCode: 4, code: 'STATEMENT_REFUSED' });
});

test.each([
  'delete from users where id = 1',
  'do $$ begin delete from users where id = 1; end $$',
  'create table x (id int)',
  'vacuum users',
  'set default_transaction_read_only = off',
  'begin read write; delete from users where id = 1; commit',
  'reset all; delete from users where id = 1',
  "select set_config('transaction_read_only', 'off', false)",
  'with d as (delete from users where id = 1 returning 1) select * from d',
  'explain analyze delete from users where id = 1',
  'prepare p as delete from users where id = 1; execute p',
  "select nextval('orders_id_seq')",
  'select gone()',
])('read-only: %s - refused', async statement => {
  await cluster.query(
    'create function gone() returns int language sql as $$ delete from users where id = 1 returning 1 $$',
  );
  const done = await sql(instance, ['--read-only', '--yes', '-c', statement], { json: true });
  expect(failureOf(done).code).toMatch(/^(STATEMENT_REFUSED|DATABASE_FAILED)$/);
  expect(await shopCounts(cluster)).toEqual(full);
  const looked = await sql(instance, ['--read-only', '-c', 'select count(*) from users'], { json: true });
  expect(rowsOf(looked)).toEqual([{ count: '3000' }]);
});

test("the server's own protection - refuses without a confirmation, and lets through what is confirmed", async () => {
  await cluster.query(`
    create function guard() returns trigger language plpgsql as $$
    begin
      if coalesce(current_setting('aishell.allow_mass_write', true), '') <> 'on' and (select count(*) from old_rows) > 3 then
        raise exception 'mass change refused' using hint = 'SET LOCAL aishell.allow_mass_write = on';
      end if;
      return null;
    end $$;
    create trigger guard after delete on orders referencing old table as old_rows for each statement execute function guard();`);
  const few = await sql(instance, ['-c', 'delete from orders where id <= 3'], { json: true });
  expect(reportsOf(few)[0]).toMatchObject({ outcome: 'committed' });
  const more = failureOf(await sql(instance, ['-c', 'delete from orders where id <= 10'], { json: true }));
  expect(more.message).toMatch(/own protection refuses it/);
  // What one statement is allowed, the next in the same transaction is not.
  const both =
    'begin; delete from orders where id <= 10; delete from orders where id between 11 and 20; commit';
  const tried = await sql(instance, ['--dry-run', '-c', both], { json: true });
  const refused = expect.stringMatching(/own protection refuses it/);
  expect(reportsOf(tried).filter(({ command }) => command === 'DELETE')).toMatchObject([
    { reasons: [refused] },
    { reasons: [refused] },
  ]);
  const yes = await sql(instance, ['--yes', '-c', 'delete from orders where id <= 10'], { json: true });
  expect(reportsOf(yes)[0]).toMatchObject({ outcome: 'committed', tag: 'DELETE 7' });
});

test('a procedure that commits by itself - is told apart, and runs only when it is confirmed', async () => {
  await cluster.query(
    'create procedure p() language plpgsql as $$ begin delete from orders where id = 1; commit; end $$',
  );
  expect(failureOf(await sql(instance, ['-c', 'call p()'], { json: true })).message).toMatch(
    /commits by itself/,
  );
  expect((await shopCounts(cluster))['orders']).toBe(6000);
  resultOf(await sql(instance, ['--yes', '-c', 'call p()'], { json: true }));
  expect((await shopCounts(cluster))['orders']).toBe(5999);
});

test('what counts - not rows of temporary tables and of tables it makes itself', async () => {
  const done = await sql(
    instance,
    [
      '-c',
      'create temp table mine as select * from users; delete from mine where id > 0; create table copy as select * from users',
    ],
    { json: true },
  );
  expect(reportsOf(done).map(({ outcome, changedRows }) => [outcome, changedRows])).toEqual([
    ['committed', 0],
    ['committed', 0],
    ['committed', 0],
  ]);
});

test('a file, and standard input - run statement by statement; one that ends inside a transaction leaves nothing', async () => {
  const file = instance.path('script.sql');
  await writeFile(
    file,
    '\ufeffbegin;\nupdate users set name = $$a$$ where id = 1;\ncommit; select name from users where id = 1;',
  );
  const done = await sql(instance, ['-f', file], { json: true });
  expect(reportsOf(done).map(({ outcome }) => outcome)).toEqual(['done', 'open', 'committed', 'done']);
  expect(rowsOf(done)).toEqual([{ name: 'a' }]);
  const input =
    'begin; update users set name = $$b$$ where id = 1; savepoint s; delete from orders where id = 1';
  const left = await sql(instance, [], { input, json: true });
  expect(left.exitCode).toBe(3);
  expect(await cluster.query('select name from users where id = 1')).toEqual([{ name: 'a' }]);
  expect((await shopCounts(cluster))['orders']).toBe(6000);
});

test('mistakes - nothing of the input runs; an error shows its place, detail and hint', async () => {
  const syntax = await sql(instance, ['-c', "delete from orders where id = 1; select 'ä' wher e"]);
  expect(syntax).toMatchObject({ exitCode: 2 });
  expect(syntax.stderr).toMatch(/LINE 1: delete .* wher e\n {57}\^\n.*syntax error at or near "e"/);
  expect(await shopCounts(cluster)).toEqual(full);
  const column = await sql(instance, ['-c', 'select 1;\nselect\n  nam from users']);
  expect(column).toMatchObject({ exitCode: 1 });
  expect(column.stderr).toMatch(
    /LINE 2: {3}nam from users\n {10}\^\nerror: .*column "nam" does not exist \(statement 2 of 2\)/,
  );
  expect(column.stderr).toContain('hint: Perhaps you meant to reference the column "users.name".');
  const key = await sql(instance, ['-c', 'insert into orders (user_id) values (99999)']);
  expect(key.stderr).toContain('DETAIL:  Key (user_id)=(99999) is not present in table "users".');
  const several = failureOf(await sql(instance, ['select 1', '-c', 'select 2'], { json: true }));
  expect(several).toMatchObject({ exitCode: 2, code: 'USAGE' });
  const database = failureOf(await sql(instance, ['--database', 'nix', '-c', 'select 2'], { json: true }));
  expect(database.code).toBe('DATABASE_UNREACHABLE');
});

test('another session holds the lock - it is not waited for without end', async () => {
  const other = await cluster.connect();
  await other.query('begin; lock table orders in access exclusive mode');
  const done = await sql(instance, ['--lock-timeout', '1s', '-c', 'delete from orders where id = 1'], {
    json: true,
  });
  expect(failureOf(done)).toMatchObject({ code: 'TIMEOUT', hint: expect.stringContaining('--lock-timeout') });
  await other.query('rollback');
  await other.end();
});

test('cancelled by Ctrl-C - ends on the server too, and nothing of it stays', async () => {
  const running = startCli(
    [
      'sql',
      '--config',
      instance.configFile,
      '-c',
      'update users set name = $$x$$ where id <= 10 and pg_sleep(100) is not null',
    ],
    { env: { XDG_STATE_HOME: instance.path('state') } },
  );
  const sleeping = "select 1 from pg_stat_activity where wait_event = 'PgSleep'";
  while ((await cluster.query(sleeping)).length === 0) await sleep(20);
  running.process.kill('SIGINT');
  expect((await running.done).exitCode).toBe(130);
  expect(await cluster.query(sleeping)).toEqual([]);
  expect(await cluster.query('select 1 from users where name = $1', ['x'])).toEqual([]);
  const history = await sql(instance, ['history', '--last', '1'], { json: true });
  expect(resultOf(history)).toMatchObject({ entries: [{ outcome: 'cancelled' }] });
});

test('the history - says who did what, for its owner alone, without secrets', async () => {
  await sql(instance, [
    '-c',
    "create role app password 'geheim'; update users set name = $$a$$ where id = 1",
  ]);
  await sql(instance, ['-c', "alter role nobody_there password 'geheim'"]);
  await sql(instance, ['-c', 'delete from users where id > 5']);
  await cluster.query('drop role app');
  const entries = resultOf<{ entries: readonly Record<string, unknown>[] }>(
    await sql(instance, ['history', '--last', '4'], { json: true }),
  ).entries;
  expect(entries).toMatchObject([
    {
      statement: "create role app password '[redacted]'",
      outcome: 'committed',
      role: 'postgres',
      instance: 'shop',
    },
    { outcome: 'committed', rows: 1, xid: expect.stringMatching(/^\d+$/), database: 'postgres' },
    { outcome: 'failed', error: '[redacted]' },
    { statement: 'delete from users where id > 5', outcome: 'refused', xid: null },
  ]);
  const kept = await keptFiles(instance);
  expect(kept).toContain('delete from users where id > 5');
  expect(kept).not.toContain('geheim');
  expect((await stat(instance.path('state/aishell/sql/statements.jsonl'))).mode & 0o777).toBe(0o600);
  expect((await stat(instance.path('state/aishell/sql'))).mode & 0o777).toBe(0o700);
  const text = await sql(instance, ['history']);
  expect(text.stdout).toMatch(/as postgres in postgres {2}refused\n {2}delete from users where id > 5\n/);
});
