import { appendFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { cancelSighted } from '../../src/watch/cancel-transaction.ts';
import { DatabaseSessions } from '../../src/watch/database-sessions.ts';
import { type AlertReceiver, reply, startReceiver } from '../notify/alert-receiver.ts';
import { startAgent, type TestAgent } from '../support/agent.ts';
import { resultOf, type TestInstance } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { sql } from '../support/sql.ts';
import { incidentsOf, protectWatched, untilIncident } from '../support/watch.ts';

const ROWS = 8000;
const env = { WEBHOOK_SECRET: `whsec_${Buffer.alloc(32, 1).toString('base64')}` };

let cluster: TestCluster;
let instance: TestInstance;
let agent: TestAgent;
let client: pg.Client;

beforeAll(async () => {
  cluster = await startTestCluster({ version: 17, settings: { max_prepared_transactions: '3' } });
  instance = await protectWatched(cluster);
  for (const name of ['a', 'ab', 'tried', 'kept', 'told', 'ready'])
    await cluster.query(`create table ${name} as select n as id from generate_series(1, ${ROWS}) n`);
  // A statement that takes long enough to be seen while it runs.
  await cluster.query(`
    create function linger() returns trigger language plpgsql as 'begin perform pg_sleep(1.5); return null; end';
    create trigger linger after delete on tried for each statement execute function linger();
    create trigger linger after delete on kept for each statement execute function linger();
    analyze`);
  client = await cluster.connect();
  agent = await startAgent(instance);
});

afterAll(async () => {
  await agent?.kill();
  await cluster?.[Symbol.asyncDispose]();
});

async function reportedEvents(incident: string): Promise<string[]> {
  const done = await instance.run(['backup', 'analyze-incident', incident], { env });
  return resultOf<{ timeline: { event: string }[] }>(done).timeline.map(({ event }) => event);
}

test('a statement that the console tries and takes back - nobody is alarmed, and nothing stays held', async () => {
  const before = await incidentsOf(instance);
  for (const args of [['--dry-run'], ['--max-rows', '10']]) {
    const done = await sql(instance, ['-c', 'delete from tried where id > 0', ...args]);
    expect(done.stdout + done.stderr).toContain('8,000');
  }
  await sleep(1500);
  expect(await incidentsOf(instance)).toEqual(before);
  expect(agent.notes().filter(({ topic }) => topic === 'incident')).toEqual([]);
  expect((await agent.status()).watch?.held).toEqual([]);
});

test('committed by the console, or by what calls itself so - it is an incident, and the old rows are held', async () => {
  const done = await sql(instance, ['-c', 'delete from kept where id > 0', '--yes']);
  expect(done.exitCode).toBe(0);
  const incident = await untilIncident(
    instance,
    each => each.tables[0]?.table === 'kept' && each.guard.autovacuumOff.length > 0,
  );
  expect(incident).toMatchObject({
    status: 'open',
    transaction: { outcome: 'committed' },
    tables: [{ act: 'delete', rows: ROWS }],
    guard: { snapshot: { releasedAt: null } },
  });
  const posing = await cluster.connect();
  await posing.query("set application_name = 'aishell sql'");
  await posing.query('begin; truncate tried');
  await sleep(1000);
  await posing.query('commit');
  await posing.end();
  const cut = await untilIncident(instance, each => each.tables[0]?.table === 'tried');
  expect(cut).toMatchObject({ status: 'open', transaction: { outcome: 'committed' } });
});

test('one of two tables can be put back - the other alone stays noted, although its name begins the same', async () => {
  await client.query('begin; delete from a; delete from ab; commit');
  const { id } = await untilIncident(instance, ({ guard }) => guard.autovacuumOff.length === 2);
  await client.query('begin; lock table ab in share update exclusive mode');
  await instance.run(['incident', 'resolve', id]);
  const left = await untilIncident(
    instance,
    each => each.id === id && each.status === 'resolved' && each.guard.autovacuumOff.length < 2,
  );
  expect(left.guard.autovacuumOff).toEqual(['public.ab']);
  await client.query('rollback');
  await untilIncident(instance, each => each.id === id && each.guard.autovacuumOff.length === 0);
});

test('to be cancelled, but prepared - it is said so, and how it ends', async () => {
  await client.query('begin; delete from ready');
  const { rows } = await client.query<{ xid: number }>('select pg_current_xact_id()::text::int as xid');
  await client.query("prepare transaction 'later'");
  const sessions = new DatabaseSessions(cluster.connection);
  const seen = { owner: Promise.resolve(null), judgeFor: () => 'cancel' as const, xid: rows[0]!.xid };
  const prepared = await cancelSighted(sessions, seen);
  await client.query("rollback prepared 'later'");
  const ended = await cancelSighted(sessions, seen);
  sessions.close();
  expect(prepared).toEqual({
    event: 'not cancelled',
    text: "the transaction is prepared, and no session runs it: ROLLBACK PREPARED 'later' undoes it",
  });
  expect(ended?.text).toContain('had ended before');
});

test('no channel - the report says nothing of people who were told; with one, when it took the alarm', async () => {
  const whole = (await incidentsOf(instance)).find(({ tables }) => tables[0]?.table === 'kept');
  const events = whole?.events.map(({ event }) => event);
  expect(events).toContain('reported');
  expect(events).not.toContain('alerted');
  expect(await reportedEvents(whole?.id ?? '')).not.toContain('alerted');
  await agent.stop();
  await using receiver: AlertReceiver = await startReceiver(reply(200, ''), { isTls: false });
  const channel = `{ type: webhook, url: ${receiver.url}/alerts, secret: env:WEBHOOK_SECRET, allow_private: true }`;
  await appendFile(
    instance.configFile,
    `notifications: { directory: ${instance.path('notify')}, channels: { ops: ${channel} } }\n`,
  );
  agent = await startAgent(instance, { env });
  await client.query('delete from told');
  const told = await untilIncident(
    instance,
    each => each.tables[0]?.table === 'told' && each.events.some(({ event }) => event === 'alerted'),
  );
  expect(told.events.find(({ event }) => event === 'alerted')?.text).toBe('people are told: ops');
  expect(await reportedEvents(told.id)).toContain('alerted');
});
