import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { connect } from '../../src/engines/postgres/connection.ts';
import { checkDatabases, type DatabaseChecks } from '../../src/engines/postgres/database-checks.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';

const budget = { indexes: 60_000, tables: 60_000, foreignKeys: 60_000, rows: 60_000 };

async function check(cluster: TestCluster, budgetMs = budget, signal?: AbortSignal): Promise<DatabaseChecks> {
  return await checkDatabases({
    connect: database => connect(cluster.connection, { database }),
    budgetMs,
    onEvent: () => undefined,
    heapAllIndexed: true,
    ...(signal === undefined ? {} : { signal }),
  });
}

const schema = `
  create schema "o dd";
  create table "o dd"."pa""rent" (a int, b text collate "C", primary key (a, b));
  create table public.child (id int primary key, x int, y text, foreign key (x, y) references "o dd"."pa""rent" (a, b));
  create table public.strict (x int, y text, foreign key (x, y) references "o dd"."pa""rent" match full);
  create table public.events (id int, at int, primary key (id, at)) partition by range (at);
  create table public.events_1 partition of public.events for values from (0) to (100);
  create table public.event_notes (id int, at int, foreign key (id, at) references public.events);
  create table public.tree (id int primary key, parent int references public.tree);
  insert into "o dd"."pa""rent" select n, n::text from generate_series(1, 1000) n;
  insert into public.child select n, n, n::text from generate_series(1, 1000) n;
  insert into public.child values (2001, null, 'x'), (2002, 77777, null);
  insert into public.strict values (1, '1'), (null, null);
  insert into public.events select n, n % 100 from generate_series(0, 999) n;
  insert into public.event_notes select n, n % 100 from generate_series(0, 999) n;
  insert into public.tree select n, nullif(n / 2, 0) from generate_series(1, 1000) n`;

test.for([14, 15, 16, 17, 18] as const)(
  'PostgreSQL %i, sound - everything is checked and nothing found',
  async version => {
    await using cluster = await startTestCluster({ version });
    await cluster.query(schema);
    await cluster.query('create extension amcheck');
    const checks = await check(cluster);
    expect(checks.indexes.problems).toEqual([]);
    expect(checks).toMatchObject({ ok: true, withoutAmcheck: ['template1'] });
    expect(checks.indexes.checked).toBe(checks.indexes.total);
    expect(checks.indexes.total).toBeGreaterThan(100);
    expect(checks.tables.checked).toBeGreaterThan(60);
    expect(checks.foreignKeys).toMatchObject({ total: 4, checked: 4, skipped: [] });
    expect(checks.rows.counted).toContainEqual({
      database: 'postgres',
      table: '"o dd"."pa""rent"',
      rows: 1000,
    });
    expect(checks.rows.counted).toContainEqual({
      database: 'postgres',
      table: 'public.events_1',
      rows: 1000,
    });
  },
);

test('rows that refer to nothing - are counted for each key', async () => {
  await using cluster = await startTestCluster({ version: 16 });
  await cluster.query(schema);
  const client = await cluster.connect();
  await client.query('set session_replication_role = replica');
  await client.query('delete from "o dd"."pa""rent" where a between 11 and 13');
  await client.query('insert into public.strict values (1, null)');
  await client.query('delete from public.events where id = 5');
  await client.query('insert into public.tree values (5000, 4999)');
  const checks = await check(cluster);
  expect(checks.ok).toBe(false);
  const found = Object.fromEntries(
    checks.foreignKeys.problems.map(problem => [problem.object.split(' ')[0], problem.message]),
  );
  expect(found).toEqual({
    'public.child': '3 rows refer to nothing in "o dd"."pa""rent"',
    'public.strict': '1 row refers to nothing in "o dd"."pa""rent"',
    'public.event_notes': '1 row refers to nothing in public.events',
    'public.tree': '1 row refers to nothing in public.tree',
  });
  expect(checks.withoutAmcheck.toSorted()).toEqual(['postgres', 'template1']);
});

test('an index and a table damaged on disk - are named, the others are still checked', async () => {
  await using cluster = await startTestCluster({ version: 18, checksums: false });
  await cluster.query(schema);
  await cluster.query('create extension amcheck');
  const [index] = await cluster.query<{ path: string }>(
    `select pg_relation_filepath('public.child_pkey') as path`,
  );
  const [table] = await cluster.query<{ path: string }>(`select pg_relation_filepath('public.tree') as path`);
  await cluster.stop();
  // Two keys of the first leaf page change places; a line pointer of the table says that its row has 8 bytes.
  await damage(join(cluster.dataDirectory, index!.path), page => {
    const first = page.subarray(8192 + 28, 8192 + 32);
    const other = page.subarray(8192 + 68, 8192 + 72);
    const kept = Buffer.from(first);
    first.set(other);
    other.set(kept);
  });
  await damage(join(cluster.dataDirectory, table!.path), page =>
    page.writeUInt32LE((page.readUInt32LE(24 + 4 * 7) & 0x1_ffff) | (8 << 17), 24 + 4 * 7),
  );
  await cluster.start();
  const checks = await check(cluster);
  expect(checks.ok).toBe(false);
  expect(checks.indexes.problems).toContainEqual({
    database: 'postgres',
    object: 'public.child_pkey',
    message: expect.stringContaining('order'),
  });
  expect(checks.tables.problems.map(problem => problem.object)).toEqual(['public.tree']);
  expect(checks.tables.problems[0]?.message).toMatch(/^block 0: line pointer/);
  expect(checks.indexes.checked + checks.indexes.skipped.length).toBe(checks.indexes.total);
});

async function damage(path: string, change: (bytes: Buffer) => void): Promise<void> {
  await using file = await open(path, 'r+');
  const bytes = await file.readFile();
  change(bytes);
  await file.write(bytes, 0, bytes.length, 0);
}

test('no time - everything is left for time, nothing is a problem', async () => {
  await using cluster = await startTestCluster({ version: 17 });
  await cluster.query(schema);
  await cluster.query('create extension amcheck');
  const checks = await check(cluster, { indexes: 0, tables: 0, foreignKeys: 0, rows: 0 });
  expect(checks.ok).toBe(true);
  expect(checks.indexes).toMatchObject({ checked: 0, problems: [] });
  expect(checks.indexes.leftForTime).toBe(checks.indexes.total);
  expect(checks.rows.counted).toEqual([]);
});

test('a slow statement - ends with the time, and a cancelled run at once', async () => {
  await using cluster = await startTestCluster({ version: 15 });
  await cluster.query(
    'create table big as select n, repeat(n::text, 20) v from generate_series(1, 2000000) n',
  );
  const checks = await check(cluster, { ...budget, rows: 15 });
  expect(checks.rows).toMatchObject({ total: 1, checked: 0, leftForTime: 1 });
  await expect(check(cluster, budget, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
});
