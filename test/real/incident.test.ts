import { readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Explanation } from '../../src/explain/explain.ts';
import type { StopReport } from '../../src/operations/emergency/stop-report.ts';
import type { IncidentAnalysis } from '../../src/operations/incident/analysis.ts';
import { type Incident, newIncidentId } from '../../src/operations/incident/incident.ts';
import {
  readIncident,
  readIncidents,
  saveIncident,
  updateIncident,
} from '../../src/operations/incident/incident-store.ts';
import type { LostReport } from '../../src/operations/lost/lost-report.ts';
import type { RestoreReport } from '../../src/operations/restore/restore-report.ts';
import { type AlertReceiver, reply, startReceiver } from '../notify/alert-receiver.ts';
import { reportOf, stopArgs } from '../support/emergency.ts';
import { failureOf, protect, resultOf, type TestInstance } from '../support/instance.ts';
import { startTestCluster, type TestCluster } from '../support/postgres.ts';
import { contextOf } from '../support/rewind-plan.ts';

const ROWS = 4000;
const env = { MODEL_KEY: 'sk-secret', WEBHOOK_SECRET: `whsec_${Buffer.alloc(32, 1).toString('base64')}` };

let cluster: TestCluster;
let instance: TestInstance;
let receiver: AlertReceiver;
let stopped: StopReport;

beforeAll(async () => {
  const answer = { type: 'message', content: [{ type: 'text', text: 'All users were\u001b[31m deleted.' }] };
  receiver = await startReceiver(reply(200, JSON.stringify(answer)), { isTls: false });
  cluster = await startTestCluster({ version: 17, walSegmentSizeMb: 1 });
  await cluster.query('create database shop');
  instance = await protect(cluster);
  await configure();
  const shop = await cluster.connect('shop');
  await shop.query(
    `create table users as select n as id, 'user ' || n as name from generate_series(1, ${ROWS}) n;
     create table orders (id int); analyze;`,
  );
  await instance.backup();
  await shop.query('delete from users where 1 = 1');
  await shop.query('insert into orders select generate_series(1, 7)');
  await shop.end();
  stopped = reportOf(await instance.run(stopArgs(), { env }));
});

afterAll(async () => {
  await receiver?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

async function configure(): Promise<void> {
  const text = (await readFile(instance.configFile, 'utf8')).replace(
    '    engine: postgresql\n',
    '    engine: postgresql\n    cost_per_minute: 600\n    currency: EUR\n',
  );
  const more = [
    ...['emergency:', `  state_directory: ${instance.path('state')}`, 'notifications:'],
    ...[`  directory: ${instance.path('notify')}`, '  channels:', '    ops:', '      type: webhook'],
    ...[`      url: ${receiver.url}/alerts`, '      secret: env:WEBHOOK_SECRET', '      allow_private: true'],
  ];
  const ai = ['ai:', '  provider: anthropic', '  model: claude-test', `  base_url: ${receiver.url}/`];
  more.push(...ai, '  api_key: env:MODEL_KEY', '  allow_private: true');
  await writeFile(instance.configFile, `${text.trimEnd()}\n${more.join('\n')}\n`);
}

type Report = IncidentAnalysis & { readonly explanation: Explanation | null };

async function analyze(...args: string[]): Promise<Report> {
  return resultOf(await instance.run(['backup', 'analyze-incident', ...args], { env }));
}

async function incidents(): Promise<Incident[]> {
  return await readIncidents(await contextOf(instance));
}

test('a stop after a mass DELETE that nobody noticed - it becomes an incident, and people are told', async () => {
  expect(stopped.problems).toEqual([]);
  const { incident } = stopped;
  expect(incident).toMatchObject({
    ...{ severity: 'critical', status: 'open', culprit: null, rule: { confidence: 'likely' } },
    tables: [
      { act: 'delete', database: 'shop', schema: 'public', table: 'users', rows: ROWS, rowsBefore: ROWS },
    ],
    transaction: { outcome: 'committed', timeline: 1, xid: stopped.recommended?.xid },
  });
  expect(stopped.outlook?.estimate?.seconds).toBeGreaterThan(0);
  expect(stopped.actions.map(({ text }) => text)).toContainEqual('Incident logged and team notified: ops');
  const [message] = receiver.requests.map(({ body }) => JSON.parse(body));
  expect(message).toMatchObject({
    type: 'aishell.emergency.trigger',
    data: { severity: 'critical', incidentId: incident?.id, instance: 'shop' },
  });
  expect(message.data.title).toContain("Writes of 'shop' are stopped: DELETE on shop: public.users");
  // What is stored is what was reported, with what the stop did.
  const stored = await incidents();
  expect(stored).toEqual([incident]);
  const events = stored[0]?.events.map(({ event }) => event);
  expect(events).toEqual(expect.arrayContaining(['committed', 'detected', 'writes stopped', 'alerted']));
});

test('the stop once more - the same incident, nothing twice', async () => {
  const before = await incidents();
  const again: StopReport = reportOf(await instance.run(stopArgs(), { env }));
  expect(again.incident?.id).toBe(stopped.incident?.id);
  expect(again.recommended).toMatchObject({ xid: stopped.recommended?.xid });
  const [after, ...others] = await incidents();
  expect(others).toEqual([]);
  const committed = after?.events.filter(({ event }) => event === 'committed');
  expect(committed).toHaveLength(1);
  expect(after?.sequence).toBe((before[0]?.sequence ?? 0) + 1);
});

test('the report while writes are stopped - exact rows, money that goes on, nothing that nobody knows', async () => {
  const analysis = await analyze();
  expect(analysis).toMatchObject({ source: 'incident', incidentId: stopped.incident?.id, cause: [] });
  expect(analysis.impact.tables).toMatchObject([{ act: 'delete', rows: ROWS, share: 1 }]);
  expect(analysis.impact.downtime).toMatchObject({
    to: null,
    outages: [{ kind: 'writes stopped', to: null }],
  });
  const { cost, downtime } = analysis.impact;
  expect(cost).toMatchObject({ currency: 'EUR', perMinute: 600 });
  expect(cost?.amount).toBeCloseTo((downtime?.seconds ?? 0) * 10);
  expect(analysis.unknown.join()).toMatch(/who did it/);
  expect(analysis.recommendations[0]?.command).toBe(
    `aishell backup restore --before-incident ${stopped.incident?.id}`,
  );
  const times = analysis.timeline.map(({ at }) => Date.parse(at));
  expect(times).toEqual(times.toSorted((a, b) => a - b));
  expect(analysis.timeline[0]).toMatchObject({ event: 'committed', sinceSeconds: 0 });
});

test('from the log alone - by number, by description; no incident is made of it', async () => {
  const xid = String(stopped.recommended?.xid);
  for (const args of [
    ['--xid', xid],
    ['--change', 'the delete on users'],
  ])
    expect(await analyze(...args)).toMatchObject({ incidentId: stopped.incident?.id });
  const small = await analyze('--change', 'the insert into orders');
  expect(small).toMatchObject({ source: 'log', incidentId: null, severity: null });
  expect(await incidents()).toHaveLength(1);
  const unknown = await instance.run(['backup', 'analyze-incident', '--xid', '99999999'], { env });
  expect(failureOf(unknown).code).toBe('LOG_NOT_FOUND');
  const both = await instance.run(['backup', 'analyze-incident', 'latest', '--xid', xid], { env });
  expect(failureOf(both).code).toBe('USAGE');
});

test('what is lost, without a target - before any recovery it says what to give', async () => {
  const failure = failureOf(await instance.run(['backup', 'lost', '--dry-run']));
  expect(failure.code).toBe('USAGE');
  expect(failure.hint).toContain('No recovery to before an incident is on record');
  expect(failure.hint).toContain('aishell backup timeline');
  expect(failure.hint).not.toContain('--latest');
  const two = failureOf(await instance.run(['backup', 'lost', '--dry-run', '--xid', '800', '--lsn', '0/1']));
  expect(two.message).toContain('--lsn and --xid cannot go together');
});

test('the report as Markdown - written, with the statement of the culprit fenced in', async () => {
  const context = await contextOf(instance);
  const { id } = await readIncident(context, 'latest');
  const query = "DELETE FROM users WHERE 'ann@shop' = 'ann@shop' -- ``` | <b>\u001b[2J";
  await updateIncident(context, id, known => ({
    ...known,
    culprit: {
      ...{ pid: 4711, role: 'dev', application: 'psql', client: '10.0.0.7', database: 'shop', query },
      queryStartedAt: new Date(Date.parse(known.transaction.endedAt ?? '') - 747).toISOString(),
      transactionStartedAt: null,
    },
  }));
  const file = instance.path('incident.md');
  const analysis = await analyze('latest', '--output', file);
  expect(analysis.cause.join('\n')).toContain('true for every row: it limits nothing');
  expect(analysis.cause.join('\n')).toContain('Role dev in database shop with psql from 10.0.0.7');
  expect(analysis.timeline[0]?.event).toBe('started');
  const text = await readFile(file, 'utf8');
  expect(text).toContain('# Incident: DELETE on shop: public.users');
  expect(text).toContain("````sql\nDELETE FROM users WHERE 'ann@shop' = 'ann@shop' -- ``` | <b>�[2J\n````");
  // A language model has put it into words: it was told the facts, and no value of a row.
  expect(analysis.explanation).toMatchObject({ by: 'model', text: 'All users were[31m deleted.' });
  expect(text).toContain('Written by a language model');
  const asked = receiver.requests.at(-1);
  expect(asked?.path).toBe('/v1/messages');
  expect(asked?.headers['x-api-key']).toBe('sk-secret');
  expect(asked?.body).toContain('DELETE FROM users WHERE ? = ?');
  expect(asked?.body).not.toMatch(/ann@shop|10\.0\.0\.7/);
  const facts = await analyze('latest', '--no-explain');
  expect(facts.explanation).toBeNull();
  const done = await instance.run(['backup', 'timeline', '--explain']);
  const { explanation } = resultOf<{ explanation: Explanation }>(done);
  // Without its key there: the program's own words.
  expect(explanation).toMatchObject({ by: 'rules', problem: expect.stringContaining('MODEL_KEY') });
  expect(explanation.text).toMatch(/Transaction \d+ deleted 4,000 rows of shop: public.users/);
});

test('restore --before-incident - the rows are back, and the incident knows it', async () => {
  const { id } = await readIncident(await contextOf(instance), 'latest');
  const report: RestoreReport = await instance.restore(['--before-incident', id.slice(-6)]);
  expect(report.target).toMatchObject({ incident: id, firstDropped: { xid: stopped.recommended?.xid } });
  resultOf(await instance.run(['emergency', 'resume-writes'], { env }));
  const shop = await cluster.connect('shop');
  expect((await shop.query('select count(*)::int from users')).rows).toEqual([{ count: ROWS }]);
  await shop.end();
  // What that has lost needs no target: it is on record.
  const lost = resultOf<LostReport>(await instance.run(['backup', 'lost', '--dry-run']));
  expect(lost).toMatchObject({
    transactions: 1,
    excluded: [{ xid: stopped.recommended?.xid }],
    tables: [{ table: 'orders', inserted: 7 }],
  });
  const analysis = await analyze();
  expect(analysis).toMatchObject({ incidentId: id, status: 'resolved' });
  expect(analysis.impact.lost).toMatchObject({
    transactions: 1,
    tables: [{ table: 'orders', inserted: 7, updated: 0, deleted: 0 }],
  });
  expect(analysis.impact.downtime?.to).not.toBeNull();
  expect(analysis.impact.downtime?.outages.map(({ kind }) => kind)).toEqual([
    'writes stopped',
    'server down',
  ]);
  const order = ['started', 'committed', 'writes stopped', 'recovery started', 'online', 'writes resumed'];
  const told = analysis.timeline.map(({ event }) => event);
  const places = order.map(event => told.indexOf(event));
  expect(
    places.every(place => place >= 0),
    told.join(),
  ).toBe(true);
  expect(places).toEqual(places.toSorted((a, b) => a - b));
  expect(analysis.recommendations.map(({ text }) => text)).not.toContain(
    'Bring the data back: it is not back yet',
  );
});

test('once it is undone - the incident is no target any more, and the message says why', async () => {
  const again = await instance.run(['backup', 'restore', '--before-incident', 'latest', '--dry-run']);
  expect(failureOf(again)).toMatchObject({ code: 'TARGET_UNREACHABLE' });
  expect(failureOf(again).hint).toContain('--timeline 1');
  const old = await instance.run([
    ...['backup', 'restore', '--before-incident', 'latest', '--timeline', '1'],
    ...['--target', instance.path('old'), '--dry-run'],
  ]);
  expect(old.exitCode, old.stdout).toBe(0);
  const context = await contextOf(instance);
  await updateIncident(context, stopped.incident?.id ?? '', known => ({
    ...known,
    transaction: { ...known.transaction, outcome: 'rolled back' },
  }));
  const nothing = await instance.run(['backup', 'restore', '--before-incident', 'latest', '--dry-run']);
  expect(failureOf(nothing).message).toContain('was rolled back: it destroyed nothing');
});

test('gone back to the state with the disaster - the incident is open again; one that was noticed as it happened comes first', async () => {
  const context = await contextOf(instance);
  const known = await readIncident(context, 'latest');
  await updateIncident(context, known.id, each => ({
    ...each,
    transaction: { ...each.transaction, outcome: 'committed' },
  }));
  const safety = known.recoveries?.at(-1)?.safetyPath ?? '';
  const confirm = ['--confirm', 'restore shop', '--yes'];
  const back = await instance.run(['backup', 'restore', '--go-back', safety, ...confirm]);
  expect(back.exitCode, back.stdout).toBe(0);
  const open = await readIncident(context, 'latest');
  expect(open).toMatchObject({ status: 'open', resolution: null });
  expect(open.events.at(-1)?.event).toBe('went back');
  const noticed: Incident = {
    ...open,
    ...{ id: newIncidentId(new Date(), Buffer.from('abc')), sequence: 1, recoveries: [], events: [] },
    rule: { name: 'mass delete', explanation: 'more than 1,000 rows', confidence: 'certain' },
    ...{ detectedAt: new Date().toISOString(), transaction: { ...open.transaction, outcome: 'committed' } },
  };
  await saveIncident(context, noticed);
  const again: StopReport = reportOf(await instance.run(stopArgs(), { env }));
  expect(again.incident).toMatchObject({ id: noticed.id, rule: { name: 'mass delete' } });
  expect(again.recommended).toMatchObject({ xid: open.transaction.xid });
  expect(await incidents()).toHaveLength(2);
});
