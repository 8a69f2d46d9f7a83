import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { expect, test } from 'vitest';
import type { RestoreReport } from '../../src/operations/restore/restore-report.ts';
import type { TimelineReport, TimelineTransaction } from '../../src/operations/timeline/timeline-report.ts';
import { failureOf, openCopy, protect, resultOf, type TestInstance } from '../support/instance.ts';
import { startTestCluster, type TableFingerprint, tableFingerprints } from '../support/postgres.ts';

type State = Record<string, TableFingerprint>;

interface Story {
  /** The numbers of transactions, by what they did. */
  readonly xids: Readonly<Record<string, number>>;
  /** All tables of the shop just before each. */
  readonly before: Readonly<Record<string, State>>;
  /** The time of a commit and of the one right after it. */
  readonly adjacent: readonly { readonly xid: number; readonly time: string }[];
}

/** Runs statements in one transaction and gives its number. */
async function commit(client: pg.Client, ...statements: readonly string[]): Promise<number> {
  await client.query('begin');
  for (const statement of statements) await client.query(statement);
  const { rows } = await client.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
  await client.query('commit');
  return Number(rows[0]!.xid);
}

/** A day at a shop: names change, files change, things get lost. */
async function play(instance: TestInstance): Promise<Story> {
  const { cluster } = instance;
  await cluster.query('create database shop');
  const client = await cluster.connect('shop');
  await client.query(`
    create table users (id int primary key, name text, story text);
    create table orders (id int primary key, amount int);
    create index on orders (amount);
    insert into users select n, 'user ' || n, repeat(md5(n::text), 120) from generate_series(1, 6000) n;
    insert into orders select n, n from generate_series(1, 3000) n`);
  await client.query('analyze');
  await instance.backup();
  const xids: Record<string, number> = {};
  const before: Record<string, State> = {};
  const step = async (name: string, ...statements: readonly string[]): Promise<void> => {
    before[name] = await tableFingerprints(client);
    xids[name] = await commit(client, ...statements);
  };
  for (let id = 1; id <= 5; id += 1) await client.query('insert into users values ($1)', [-id]);
  await step('update', 'update orders set amount = amount + 1 where id <= 1500');
  await step('delete', 'delete from users where id between 1 and 2000');
  await client.query('alter table orders rename to purchases');
  // Whoever looks at the timeline leaves the names of the moment behind; after this nobody does.
  await timelineOf(instance);
  await step(
    'rolled back',
    'savepoint s',
    'delete from users',
    'rollback to s',
    'delete from users where id < 0',
  );
  await client.query('vacuum full users');
  await step(
    'load',
    "insert into users select n, 'new', repeat('x', 3000) from generate_series(10001, 11200) n",
  );
  await client.query("select pg_create_restore_point('evening')");
  await step('truncate', 'truncate purchases');
  await client.query('insert into purchases values (1, 1), (2, 2)');
  await step('drop', 'drop table purchases');
  await client.query("begin; insert into users values (20001); prepare transaction 'in doubt'");
  await step('last delete', 'delete from users where id between 2001 and 4000');
  const adjacent = await Promise.all(
    [30001, 30002].map(async id => {
      const own = await cluster.connect('shop');
      return commit(own, `insert into users values (${id})`).finally(() => own.end());
    }),
  );
  const { rows } = await client.query<{ xid: number; time: string }>(
    `select xid, pg_xact_commit_timestamp(xid::text::xid)::text as time from unnest($1::int[]) xid order by 2`,
    [adjacent],
  );
  await client.end();
  return { xids, before, adjacent: rows };
}

async function timelineOf(instance: TestInstance, args: readonly string[] = []): Promise<TimelineReport> {
  return resultOf(await instance.run(['backup', 'timeline', ...args]));
}

/** What happened to whom, without estimates. */
function briefly({ transactions }: TimelineReport): unknown {
  return transactions.map(({ xid, acts, tables }: TimelineTransaction) => [
    xid,
    ...acts.map(each => `${each.act} ${each.database}: ${each.schema}.${each.table}`),
    ...tables.map(
      each =>
        `${each.database}: ${each.schema}.${each.table} +${each.inserted} ~${each.updated} -${each.deleted}`,
    ),
  ]);
}

async function restored(
  instance: TestInstance,
  target: readonly string[],
): Promise<{ readonly report: RestoreReport; readonly state: State; readonly prepared: readonly string[] }> {
  const directory = instance.path(`copy ${target.join(' ')}`.replace(/[^a-z0-9]+/gi, '-'));
  const report = await instance.restore([...target, '--target', directory]);
  await using copy = await openCopy(instance.cluster, report);
  const client = await copy.connect('shop');
  const { rows } = await client.query<{ gid: string }>('select gid from pg_prepared_xacts');
  return { report, state: await tableFingerprints(client), prepared: rows.map(({ gid }) => gid) };
}

test.each([15, 18] as const)(
  'PostgreSQL %i, a day of changes - every one with its names and exact counts, and the way to before it',
  async version => {
    const settings = { max_prepared_transactions: 5, track_commit_timestamp: 'on', autovacuum: 'off' };
    await using cluster = await startTestCluster({ version, settings });
    const instance = await protect(cluster);
    const { xids, before, adjacent } = await play(instance);
    // Of the segment that is being written nothing is archived: it is read where it lies.
    const report = await timelineOf(instance, ['--from', '10 minutes ago']);
    const standingOut = [
      [xids['update'], 'shop: public.orders +0 ~1500 -0'],
      [xids['delete'], 'shop: public.users +0 ~0 -2000'],
      [xids['load'], 'shop: public.users +1200 ~0 -0'],
      [xids['truncate'], 'truncate shop: public.purchases'],
      [xids['drop'], 'drop shop: public.purchases'],
      [xids['last delete'], 'shop: public.users +0 ~0 -2000'],
    ];
    expect(briefly(report)).toEqual(expect.arrayContaining(standingOut));
    expect(report.restorePoints).toMatchObject([
      {
        name: 'evening',
        restore: `aishell backup restore --restore-point evening --config ${instance.configFile}`,
      },
    ]);
    expect(report.prepared).toMatchObject([{ gid: 'in doubt' }]);
    const users = report.tables.find(each => each.table === 'users' && each.database === 'shop');
    expect(users).toMatchObject({ inserted: 6000 + 5 + 1200 + 2, updated: 0, deleted: 2000 + 5 + 2000 });
    expect(report.log.gaps).toEqual([]);

    const ambiguous = failureOf(
      await instance.run(['backup', 'restore', '--point-in-time', 'before the delete on users', '--dry-run']),
    );
    expect(ambiguous).toMatchObject({ exitCode: 2, code: 'TARGET_AMBIGUOUS' });
    for (const name of ['delete', 'last delete'])
      expect(ambiguous.hint).toContain(`aishell backup restore --xid ${xids[name]}  #`);
    const none = failureOf(
      await instance.run(['backup', 'restore', '--point-in-time', 'before the delete on user', '--dry-run']),
    );
    expect(none).toMatchObject({ exitCode: 6, code: 'LOG_NOT_FOUND' });
    expect(none.hint).toContain("'users'");

    const first = await restored(instance, ['--point-in-time', 'before the first mass delete on users']);
    expect(first.state).toEqual(before['delete']);
    expect(first.report.target.firstDropped?.xid).toBe(xids['delete']);
    expect(first.report.loss?.tables.find(each => each.table === 'users')).toMatchObject({
      inserted: 1200 + 2,
      updated: 0,
      deleted: 2000 + 5 + 2000,
    });
    expect(first.report.loss?.acts.map(each => [each.act, each.table])).toEqual(
      expect.arrayContaining([
        ['truncate', 'purchases'],
        ['drop', 'purchases'],
      ]),
    );
    const truncated = await restored(instance, ['--restore-point', 'evening']);
    expect(truncated.state).toEqual(before['truncate']);
    const last = await restored(instance, ['--xid', String(xids['last delete'])]);
    expect([last.state, last.prepared]).toEqual([before['last delete'], ['in doubt']]);
    // Two commits with nothing between them, told apart by a microsecond.
    const at = resultOf<RestoreReport>(
      await instance.run(['backup', 'restore', '--point-in-time', `${adjacent[0]!.time}`, '--dry-run']),
    );
    expect([at.target.lastKept?.xid, at.target.firstDropped?.xid]).toEqual(adjacent.map(each => each.xid));
    const end = resultOf<RestoreReport>(
      await instance.run(['backup', 'restore', '--xid', String(adjacent[1]!.xid), '--after', '--dry-run']),
    );
    expect([end.target.lastKept?.xid, end.target.firstDropped]).toEqual([adjacent[1]!.xid, null]);

    // Without any summary it is the same.
    const kept = join(instance.repository, 'instances', instance.name);
    expect(await readdir(kept)).toContain('summaries');
    await rm(join(kept, 'summaries'), { recursive: true });
    expect(briefly(await timelineOf(instance, ['--from', '10 minutes ago']))).toEqual(briefly(report));
  },
);

test.each([14, 16, 17] as const)(
  'PostgreSQL %i, a whole database dropped - named, and back with its files, as the recovery stops before they are removed',
  async version => {
    await using cluster = await startTestCluster({ version });
    const instance = await protect(cluster);
    await cluster.query('create database shop');
    const client = await cluster.connect('shop');
    await client.query('create table users as select n as id from generate_series(1, 3000) n');
    await instance.backup();
    await client.query('insert into users values (0)');
    const state = await tableFingerprints(client);
    await client.end();
    await cluster.query('drop database shop');
    const { transactions } = await timelineOf(instance);
    const dropped = transactions.at(-1)!;
    expect(dropped.summary).toBe('dropped database shop');
    const planned = resultOf<RestoreReport>(
      await instance.run([
        'backup',
        'restore',
        '--point-in-time',
        'before the drop of database shop',
        '--dry-run',
      ]),
    );
    expect(planned.target.firstDropped?.xid).toBe(dropped.xid);
    expect(planned.loss).toMatchObject({ transactions: 1, acts: [{ act: 'drop database', table: 'shop' }] });
    if (version !== 16) return;
    const back = await restored(instance, ['--xid', String(dropped.xid)]);
    expect(back.state).toEqual(state);
  },
);
