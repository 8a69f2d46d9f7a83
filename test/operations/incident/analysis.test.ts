import { expect, test } from 'vitest';
import { accountOfIncident, factsOfIncident } from '../../../src/operations/incident/account-of-incident.ts';
import type { IncidentAnalysis } from '../../../src/operations/incident/analysis.ts';
import { impactOf } from '../../../src/operations/incident/analysis-impact.ts';
import type { StoppedWrites } from '../../../src/operations/incident/analysis-stops.ts';
import type { Incident, IncidentRecovery, IncidentTable } from '../../../src/operations/incident/incident.ts';
import { lostBeside } from '../../../src/operations/restore/record-recovery.ts';
import { stopRecord } from '../emergency/stop-records.ts';

const users: IncidentTable = {
  ...{ act: 'delete', database: 'shop', schema: 'public', table: 'users', oid: 16_400 },
  ...{ rows: 3_214_567, rowsBefore: 3_214_567 },
};
const recovery: IncidentRecovery = {
  ...{ startedAt: '2025-10-27T14:00:26.891Z', serverStoppedAt: '2025-10-27T14:00:30.000Z' },
  ...{ onlineAt: '2025-10-27T14:01:00.000Z', finishedAt: '2025-10-27T14:01:34.123Z' },
  ...{ mode: 'in-place', way: 'rewind', backupId: 'backup_20251027_130000_abc123' },
  ...{ lastKeptAt: '2025-10-27T14:00:00.000Z', safetyPath: null },
  lost: { transactions: 12, tables: [], lastAt: '2025-10-27T14:00:23.000Z' },
};
const incident = { tables: [users], recoveries: [recovery] } as unknown as Incident;

function stop(from: string, to: string | null): StoppedWrites {
  return { record: { ...stopRecord({}), stoppedAt: from }, resumedAt: to };
}

test('outages that overlap - their time counts once, and so does the money', () => {
  const stops = [
    stop('2025-10-27T14:00:24.000Z', '2025-10-27T14:00:50.000Z'),
    stop('2025-10-27T14:02:00.000Z', '2025-10-27T14:02:10.000Z'),
  ];
  const cost = { perMinute: 60, currency: 'USD' };
  const impact = impactOf(incident, { stops, cost, now: new Date('2025-10-27T15:00:00Z') });
  expect(impact.downtime).toMatchObject({
    ...{ from: '2025-10-27T14:00:24.000Z', to: '2025-10-27T14:02:10.000Z', seconds: 46 },
    outages: [{ seconds: 26 }, { kind: 'server down', seconds: 30 }, { seconds: 10 }],
  });
  expect(impact.cost?.amount).toBeCloseTo(46);
  expect(impact.lostSeconds).toBe(23);
});

test('a stop that goes on, no recovery, no cost configured - up to now, and null where nothing is known', () => {
  const now = new Date('2025-10-27T14:01:24.000Z');
  const open = impactOf(
    { ...incident, recoveries: [] },
    {
      ...{ stops: [stop('2025-10-27T14:00:24.000Z', null)], cost: null, now },
    },
  );
  expect(open).toMatchObject({
    downtime: { to: null, seconds: 60 },
    cost: null,
    lost: null,
    lostSeconds: null,
  });
  const nothing = impactOf({ ...incident, recoveries: [] }, { stops: [], cost: null, now });
  expect(nothing.downtime).toBeNull();
});

test('what is lost beside an incident - without its own rows and transaction', () => {
  const label = { database: 'shop', schema: 'public', partitionOf: null, estimatedRows: null };
  const loss = {
    ...{ transactions: 13, acts: [], lastTime: null, countedTo: null, timeline: 1 },
    tables: [
      { ...label, table: 'users', inserted: 2, updated: 0, deleted: 3_214_567 },
      { ...label, table: 'orders', inserted: 40, updated: 1, deleted: 0 },
    ],
  };
  expect(lostBeside(incident, loss)).toMatchObject({
    transactions: 12,
    tables: [
      { table: 'users', inserted: 2, deleted: 0 },
      { table: 'orders', inserted: 40, updated: 1 },
    ],
  });
});

const analysis: IncidentAnalysis = {
  ...{ instance: 'shop', source: 'incident', incidentId: 'incident_20251027_140023_abc123' },
  ...{ headline: 'DELETE on shop: public.users', severity: 'critical', status: 'resolved', resolution: null },
  rule: { name: 'mass delete', explanation: 'x', confidence: 'certain' },
  at: '2025-10-27T14:00:23.145678Z',
  transaction: {
    ...{ xid: 786, timeline: 1, beginLsn: null, endLsn: '0/402A698', outcome: 'committed' },
    endedAt: '2025-10-27T14:00:23.145678Z',
  },
  atMostSeconds: 8.3,
  timeline: [
    { at: '2025-10-27T14:00:15.000Z', event: 'started', text: '', sinceSeconds: 0 },
    { at: '2025-10-27T14:00:23.145Z', event: 'committed', text: 'secret of shop', sinceSeconds: 8.145 },
    { at: '2025-10-27T14:00:23.892Z', event: 'detected', text: '', sinceSeconds: 8.892 },
    { at: '2025-10-27T14:01:00.000Z', event: 'online', text: '', sinceSeconds: 45 },
  ],
  culprit: {
    ...{ pid: 1, role: 'dev', application: 'psql', client: '10.0.0.7', database: 'shop' },
    ...{
      query: "DELETE FROM users WHERE mail <> 'ann@shop'",
      queryStartedAt: null,
      transactionStartedAt: null,
    },
  },
  cause: [
    'Role dev in database shop with psql from 10.0.0.7 (process 1)',
    'The DELETE has no WHERE: it is about every row',
  ],
  impact: {
    tables: [{ ...users, share: 1 }],
    downtime: { from: '', to: '', seconds: 67, outages: [] },
    cost: { perMinute: 1000, currency: 'USD', amount: 1116.67 },
    lost: recovery.lost,
    lostSeconds: 23,
  },
  recoveries: [recovery],
  measures: [],
  recommendations: [{ text: 'Refuse it', command: 'aishell security harden' }],
  unknown: ['the weather'],
};

test('the account without a model - what happened, how it went, what it cost, what is open', () => {
  expect(accountOfIncident(analysis)).toBe(
    [
      'On 2025-10-27 14:00:23.145 UTC, transaction 786 deleted 3,214,567 rows of shop: public.users, about 100 % of it. Role dev in database shop with psql from 10.0.0.7 (process 1). The DELETE has no WHERE: it is about every row.',
      'Counted from its end, it was noticed after 0.75s, the database was back at just before it (rewind) and online after 36.9s.',
      'For 1m 7s it could not be used as usual, which is 1116.67 USD by the configured cost of a minute. With the recovery 12 other transactions committed in 23.0s behind that point left the database; `aishell backup lost` exports their rows.',
      'Not known: the weather. Next: Refuse it (aishell security harden).',
    ].join('\n\n'),
  );
});

test('what a model is told - the facts, and no value, address or free text', () => {
  const told = JSON.stringify(factsOfIncident(analysis));
  expect(told).toContain('DELETE FROM users WHERE mail <> ?');
  expect(told).toContain('3214567');
  expect(told).not.toMatch(/ann@shop|10\.0\.0\.7|secret of shop/);
});
