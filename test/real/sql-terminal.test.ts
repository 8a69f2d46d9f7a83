import { stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { protect, type TestInstance } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { keptFiles, shopCounts, shopTables } from '../support/sql.ts';
import { openTerminal, type TestTerminal } from '../support/terminal.ts';

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

const PROMPT = /\npostgres=# $/;
const full = { users: 3000, orders: 6000, notes: 100, audit: 0 };

function open(...args: string[]): TestTerminal {
  return openTerminal(['sql', '--config', instance.configFile, ...args], {
    XDG_STATE_HOME: instance.path('state'),
  });
}

/** What the terminal showed; written on one screen, so without the escapes of its line editing. */
async function answered(terminal: TestTerminal, line: string): Promise<string> {
  terminal.type(line);
  return await terminal.until(/\n(\(dry run\) )?postgres=[*!]?# $/);
}

test('a delete of everything - asks for the number, refuses another, runs with the right one', async () => {
  await using terminal = open();
  await terminal.until(PROMPT);
  terminal.type('delete from users');
  await terminal.until(/\npostgres-# $/);
  terminal.type(';');
  const question = await terminal.until(/Type '(\d+)' to run it for real: $/);
  expect(question).toMatch(/DELETE without WHERE: it means every row of users/);
  expect(question).toMatch(/public\.orders: 6,000 deleted/);
  expect(question).toMatch(/for example: id=1; id=2; id=3; id=4; id=5/);
  // Nobody waits for a lock while a person thinks.
  const other = await cluster.connect();
  await other.query("set lock_timeout = '2s'; update users set name = name where id = 1");
  await other.query('begin; lock table orders in access exclusive mode nowait; rollback');
  await other.end();
  expect(await answered(terminal, 'yes')).toMatch(/the answer was not '12100'/);
  expect(await shopCounts(cluster)).toEqual(full);

  terminal.type('delete from users;');
  await terminal.until(/Type '12100' to run it for real: $/);
  const done = await answered(terminal, '12,100');
  expect(done).toMatch(/Recovery point: log position [0-9A-F]+\/[0-9A-F]+/);
  expect(done).toMatch(/✓ DELETE 3000 · committed · transaction (\d+)/);
  expect(done).toMatch(/aishell backup undo --xid \d+ --config/);
  expect(await shopCounts(cluster)).toEqual({ users: 0, orders: 0, notes: 0, audit: 3000 });
  // As in psql, a statement that was begun keeps nobody in.
  terminal.type('select 1');
  await terminal.until(/\npostgres-# $/);
  terminal.type('\\q');
  expect(await terminal.done).toBe(0);
});

test('it does something else than was confirmed - taken back, and asked again', async () => {
  await using terminal = open();
  await terminal.until(PROMPT);
  terminal.type('delete from orders where id > 1000;');
  await terminal.until(/Type '5000' to run it for real: $/);
  await cluster.query('insert into orders (user_id, amount) select 1, 1 from generate_series(1, 10)');
  terminal.type('5000');
  const again = await terminal.until(/Type '5010' to run it for real: $/);
  expect(again).toMatch(/It did something else than you confirmed/);
  expect((await shopCounts(cluster))['orders']).toBe(6010);
  expect(await answered(terminal, '5010')).toMatch(/✓ DELETE 5010 · committed/);
  expect((await shopCounts(cluster))['orders']).toBe(1000);
});

test('TRUNCATE, DROP - ask for the name', async () => {
  await using terminal = open();
  await terminal.until(PROMPT);
  terminal.type('truncate orders;');
  expect(await terminal.until(/Type 'orders' to run it for real: $/)).toMatch(
    /public\.orders: emptied \(6,000 rows\)/,
  );
  expect(await answered(terminal, 'orders')).toMatch(/✓ TRUNCATE TABLE · committed/);
  terminal.type('drop table notes;');
  expect(await terminal.until(/Type 'notes' to run it for real: $/)).toMatch(
    /public\.notes: dropped \(100 rows\)/,
  );
  expect(await answered(terminal, '')).toMatch(/Nothing of it was changed/);
  expect(await shopCounts(cluster)).toEqual({ ...full, orders: 0 });
});

test('Ctrl-C - cancels what runs on the server, empties what is typed, and answers no', async () => {
  await using terminal = open();
  await terminal.until(PROMPT);
  terminal.type('update users set name = $$x$$ where id < 10 and pg_sleep(100) is not null;');
  const sleeping = "select 1 from pg_stat_activity where wait_event = 'PgSleep'";
  while ((await cluster.query(sleeping)).length === 0) await sleep(20);
  terminal.press('\x03');
  expect(await terminal.until(PROMPT)).toMatch(/cancelled: nothing of it stays/);
  expect(await cluster.query(sleeping)).toEqual([]);
  terminal.type('delete from orders');
  await terminal.until(/\npostgres-# $/);
  terminal.press('where nonsense\x03');
  await terminal.until(/\^C\npostgres=# $/);
  expect(await answered(terminal, 'select 1 + 1 as two;')).toMatch(/│ {3}2 │/);
  terminal.type('delete from orders;');
  await terminal.until(/Type '6000' to run it for real: $/);
  terminal.press('\x03');
  await terminal.until(PROMPT);
  expect(await shopCounts(cluster)).toEqual(full);
  expect(await cluster.query('select 1 from users where name = $1', ['x'])).toEqual([]);
});

test('an open transaction - nobody answers in time: rolled back, and its locks are free', async () => {
  await using terminal = open('--answer-timeout', '1s');
  await terminal.until(PROMPT);
  await answered(terminal, 'begin;');
  expect(await answered(terminal, 'update users set name = $$held$$ where id = 1;')).toMatch(
    /not committed yet\n/,
  );
  terminal.type('delete from orders;');
  const left = await terminal.until(PROMPT);
  expect(left).toMatch(/keeps its locks meanwhile: without an answer in 1\.0s it is rolled back/);
  expect(left).toMatch(/nobody has confirmed it in time/);
  expect(left).toMatch(/the transaction was rolled back/);
  await cluster.query("set lock_timeout = '5s'; update users set name = 'free' where id = 1");
  expect(await shopCounts(cluster)).toEqual(full);
});

test('an open transaction, confirmed - is committed with the way back', async () => {
  await using terminal = open();
  await terminal.until(PROMPT);
  await answered(terminal, 'begin;');
  // An error costs the statement and not the transaction.
  expect(await answered(terminal, 'select nope;')).toMatch(
    /ERROR: {2}column "nope" does not exist\nLINE 1: select nope\n {15}\^/,
  );
  terminal.type('delete from orders;');
  await terminal.until(/Type '6000' to run it for real: $/);
  expect(await answered(terminal, '6000')).toMatch(
    /DELETE 6000 · not committed yet\n[\s\S]*\npostgres=\*# $/,
  );
  expect((await shopCounts(cluster))['orders']).toBe(6000);
  expect(await answered(terminal, 'commit;')).toMatch(
    /✓ COMMIT · committed · transaction \d+\n[\s\S]*backup restore --xid/,
  );
  expect((await shopCounts(cluster))['orders']).toBe(0);
});

test('pasted lines - what stands behind a question is no answer to it', async () => {
  await using terminal = open();
  await terminal.until(PROMPT);
  terminal.press('delete from orders;\r6000\rselect 1;\r');
  await terminal.until(/typed ahead: forgotten\)\n[\s\S]*Type '6000' to run it for real: /);
  expect((await shopCounts(cluster))['orders']).toBe(6000);
  terminal.press('\x03');
});

test('the arrow keys - give whole statements of an earlier run, without their secrets', async () => {
  {
    await using terminal = open();
    await terminal.until(PROMPT);
    await answered(terminal, "create role typed password 'geheim';");
    terminal.type('select count(*)');
    await terminal.until(/\npostgres-# $/);
    await answered(terminal, '  from users;');
    terminal.press('\x04');
    expect(await terminal.done).toBe(0);
  }
  await cluster.query('drop role typed');
  await using terminal = open();
  await terminal.until(PROMPT);
  terminal.press('\x1b[A');
  await terminal.until(/select count\(\*\) from users;$/);
  terminal.press('\x1b[A');
  await terminal.until(/create role typed password '\[redacted\]';$/);
  terminal.press('\x1b[B\r');
  expect(await terminal.until(PROMPT)).toMatch(/│ {2}3000 │/);
  expect(terminal.shown()).not.toContain('geheim');
  expect(await keptFiles(instance)).not.toContain('geheim');
  expect((await stat(instance.path('state/aishell/sql/input.jsonl'))).mode & 0o777).toBe(0o600);
});

test('commands with a backslash - describe, switch, and show what was run', async () => {
  await using terminal = open();
  await terminal.until(PROMPT);
  expect(await answered(terminal, '\\d')).toMatch(/│ public\.orders {2,}│ table/);
  expect(await answered(terminal, '\\d users')).toMatch(
    /│ balance │ numeric\(20,4\)[\s\S]*referenced by: orders FOREIGN KEY/,
  );
  expect(await answered(terminal, '\\d user')).toMatch(
    /unable to find the table 'user'\n.*Did you mean '.*users'\?/,
  );
  expect(await answered(terminal, '\\dry-run on')).toMatch(/\n\(dry run\) postgres=# $/);
  expect(await answered(terminal, 'delete from orders;')).toMatch(/DELETE 6000 · dry run, rolled back/);
  await answered(terminal, '\\dry-run off');
  expect(await answered(terminal, '\\timing')).toMatch(/Timing is on/);
  expect(await answered(terminal, 'delete from orders where id = 1;')).toMatch(
    /DELETE 1 · committed[\s\S]*Time: /,
  );
  expect(await answered(terminal, '\\history 2')).toMatch(
    /dry run, 6,000 rows[\s\S]*delete from orders where id = 1/,
  );
  expect(await answered(terminal, '\\nonsense')).toMatch(/unable to understand \\nonsense/);
  expect((await shopCounts(cluster))['orders']).toBe(5999);
});

test('a statement as an argument, at a terminal - asks there', async () => {
  await using terminal = open('-c', 'delete from orders');
  await terminal.until(/Type '6000' to run it for real: $/);
  terminal.type('6000');
  await terminal.until(/✓ DELETE 6000 · committed/);
  expect(await terminal.done).toBe(0);
  expect((await shopCounts(cluster))['orders']).toBe(0);
});
