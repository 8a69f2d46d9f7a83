import type pg from 'pg';
import { expect, test } from 'vitest';
import type { Incident } from '../../src/operations/incident/incident.ts';
import { startAgent } from '../support/agent.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { loadTraffic } from '../support/traffic.ts';
import { incidentsOf, protectWatched, untilIncident } from '../support/watch.ts';

/** What runs in an hour of an ordinary day, by the hour; `each` in every one. */
const day: Readonly<Record<number | 'each', readonly string[]>> = {
  each: [
    // A feed, loaded in bulk, and the batch that works it off below the limit.
    "insert into feed select n, 'new' from generate_series(1, 1500) n",
    "update feed set state = 'done' where ctid = any (array(select ctid from feed where state = 'new' limit 1500))",
    'insert into log_current select n, now() from generate_series(1, 2000) n',
    // The staging table of an import: emptied and filled again.
    'truncate staging; insert into staging select n from generate_series(1, 1500) n',
    'refresh materialized view summary',
    'refresh materialized view concurrently summary',
    'create temp table scratch as select * from customers; drop table scratch',
    'begin; create table work as select * from customers; update work set name = name; drop table work; commit',
    'begin; delete from customers; rollback',
  ],
  1: ['vacuum full customers', 'cluster customers using customers_pkey', 'reindex table customers'],
  // The purge: far beyond the limit.
  2: ['delete from log_old'],
  3: [
    'alter table customers add column at_hour timestamptz default clock_timestamp()',
    'alter table customers drop column at_hour',
  ],
  4: ['drop table log_1', 'alter table log detach partition log_2; drop table log_2'],
  5: ['analyze', 'vacuum freeze customers'],
  6: [
    // As pg_repack does it: a copy in a schema of its own takes the old files, and is dropped.
    'create schema repack',
    'create table repack.table_1 as select * from customers',
    'drop table repack.table_1',
    'drop schema repack',
  ],
  7: [
    'alter table customers set tablespace pg_default',
    'alter table customers set unlogged; alter table customers set logged',
  ],
  // A correction of a fifth of the customers: below the share, and below the limit.
  9: ['update customers set name = upper(name) where id % 5 = 0'],
  12: ['delete from feed where state = $$done$$ and ctid = any (array(select ctid from feed limit 4000))'],
};

async function prepare(cluster: TestCluster): Promise<void> {
  await cluster.query(`
    create table customers as select n as id, md5(n::text) as name from generate_series(1, 8000) n;
    alter table customers add primary key (id);
    create table feed (id int, state text);
    create table staging as select n as id from generate_series(1, 1500) n;
    create table log (id int, day int) partition by list (day);
    create table log_1 partition of log for values in (1);
    create table log_2 partition of log for values in (2);
    insert into log select n, 1 + n % 2 from generate_series(1, 6000) n;
    create table log_current (id int, at timestamptz);
    create table log_old as select n as id from generate_series(1, 20000) n;
    create materialized view summary as select id % 1000 as bucket, count(*) as n from customers group by 1;
    create unique index on summary (bucket)`);
  await cluster.query('analyze');
}

async function runHour(client: pg.Client, hour: number): Promise<void> {
  for (const statement of [...day.each, ...(day[hour] ?? [])]) await client.query(statement);
}

test('24 hours of ordinary life in a minute - false alarms are counted, and there are none', async () => {
  await using cluster = await startTestCluster({ version: 16 });
  const instance = await protectWatched(cluster, {
    allow: [
      // What is dropped and purged by its age, and what is filled anew by every import.
      { tables: ['log_*', 'staging'] },
    ],
  });
  await prepare(cluster);
  await using agent = await startAgent(instance);
  const traffic = await loadTraffic(cluster, { clients: 1 });
  const client = await cluster.connect();
  let statements = 0;
  for (let hour = 0; hour < 24; hour += 1) {
    await runHour(client, hour);
    statements += day.each.length + (day[hour]?.length ?? 0);
  }
  // The watch is awake.
  await client.query('delete from customers');
  await untilIncident(instance, each => each.transaction.outcome === 'committed');
  const { committed } = await traffic.stop();
  const isTrue = ({ tables, transaction }: Incident): boolean =>
    tables[0]?.table === 'customers' && tables[0].act === 'delete' && transaction.outcome === 'committed';
  const falseAlarmsNow = async (): Promise<Incident[]> =>
    (await incidentsOf(instance)).filter(each => !isTrue(each));
  // A deletion that is rolled back is told while it runs, if at all, and over by itself, which is written down a moment later.
  await expect
    .poll(async () => (await falseAlarmsNow()).filter(({ status }) => status === 'open'), { timeout: 10_000 })
    .toEqual([]);
  const falseAlarms = await falseAlarmsNow();
  const settled = falseAlarms.filter(({ status }) => status === 'resolved').length;
  console.log(
    `24 hours: ${statements} jobs and ${committed} small transactions; ${falseAlarms.length} false alarms, ${settled} of them over by themselves`,
  );
  expect((await agent.status()).watch?.problem).toBeNull();
});
