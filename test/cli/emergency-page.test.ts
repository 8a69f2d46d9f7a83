import { expect, test } from 'vitest';
import { drawEmergencyStatus, drawResumed, drawStopped } from '../../src/cli/render/emergency-page.ts';
import { createPage, type Page } from '../../src/cli/render/page.ts';
import { styleFor } from '../../src/cli/render/style.ts';
import type { StopReport } from '../../src/operations/emergency/stop-report.ts';
import type { Incident } from '../../src/operations/incident/incident.ts';
import { stopRecord } from '../operations/emergency/stop-records.ts';

function drawn(draw: (page: Page) => void): string {
  const lines: string[] = [];
  draw(createPage(styleFor(false), line => void lines.push(line)));
  return lines.join('\n');
}

const record = stopRecord({ reason: 'users are gone' });
const session = {
  ...{ pid: 4711, user: 'app', database: 'shop', application: 'web\u001b[2J', client: '10.0.0.7' },
  ...{ kind: 'client backend', state: 'active', transactionStart: record.stoppedAt, wrote: true },
};
const report: StopReport = {
  dryRun: false,
  id: record.id,
  instance: 'shop',
  level: 'soft',
  reason: record.reason,
  stoppedAt: record.stoppedAt,
  already: false,
  plan: {
    ...{
      instance: 'shop',
      level: 'soft',
      serverVersion: '18.4',
      systemIdentifier: '1',
      controlDatabase: 'postgres',
    },
    ...{ changes: record.changes, endsAllSessions: false, sessions: null, prepared: [], unlogged: [] },
    ...{ service: null, warnings: [] },
  },
  actions: [
    { step: 'read-only', text: 'Database set to read-only mode', at: '2025-10-27T14:00:24.050Z' },
    { step: 'archive', text: 'Log archived: up to 000000010000000000000003', at: '2025-10-27T14:00:25.000Z' },
  ],
  ended: [session, { ...session, pid: 4712, wrote: false }],
  prepared: [{ gid: 'two', owner: 'app', database: 'shop', prepared: record.stoppedAt }],
  changes: record.changes,
  times: { recordedMs: 20, readOnlyMs: 35, lastWriteMs: 31, terminatedMs: 52, stoppedMs: 60 },
  proof: { watchedMs: 251, transactions: 0, sessions: [], inRecovery: false, lsn: '0/3000060' },
  log: { detail: 'up to 000000010000000000000003', archived: ['000000010000000000000003'] },
  backupId: null,
  recommended: {
    xid: 747,
    did: 'DELETE of 3,214,567 rows from users',
    committedAt: '2025-10-27T14:00:23.000000Z',
    command: 'aishell backup restore --xid 747',
  },
  incident: null,
  outlook: null,
  problems: [],
};

test("stopped - the parts of the tutorial's alert in their order, with what was measured", () => {
  const text = drawn(page => drawStopped(page, report));
  const parts = [
    ...['WRITES STOPPED', 'Immediate Actions Taken:', 'read-only mode (14:00:24)', 'Recommended:'],
    ...['just before transaction 747, committed 2025-10-27 14:00:23.000 UTC'],
    ...['aishell backup restore --xid 747', 'Stopped: 2025-10-27 14:00:24 UTC', 'Reason: users are gone'],
    ...['Last write seen: 31 ms', 'Writers terminated: 52 ms', '251 ms, 0 transactions wrote'],
    ...[
      'process 4711: its transaction was undone',
      "'two' of app in shop",
      'aishell emergency resume-writes',
    ],
  ];
  let at = 0;
  for (const part of parts) {
    expect(text.slice(at), part).toContain(part);
    at = text.indexOf(part, at);
  }
  expect(text).not.toContain('\u001b');
});

test('a dry run - says what would be changed, and that nothing was', () => {
  const text = drawn(page => drawStopped(page, { ...report, dryRun: true }));
  expect(text).toContain("setting default_transaction_read_only: not set → 'on'");
  expect(text).toContain('Nothing was changed');
});

test('status - whether it is in effect, by whom, and what deviates', () => {
  const status = {
    ...{ instance: 'shop', stopped: true, inEffect: false, stop: record, olderStops: 0, steps: [] },
    ...{ server: null, maintenance: null, problems: ['the setting x is as it was before the stop'] },
  };
  const text = drawn(page => drawEmergencyStatus(page, status));
  expect(text).toContain('by postgres on db1');
  expect(text).toContain('In effect: not entirely');
  expect(text).toContain('the setting x is as it was before the stop');
  const none = { ...status, stopped: false, inEffect: null, stop: null, problems: [] };
  expect(drawn(page => drawEmergencyStatus(page, none))).toBe("Writes of 'shop' are not stopped.");
});

test('resumed, or nothing to resume - says so', () => {
  const resumed = {
    ...{ instance: 'shop', resumed: true, resumedAt: record.stoppedAt, actions: [], writable: true },
    stops: [{ id: record.id, level: 'soft' as const, stoppedAt: record.stoppedAt }],
    changes: [{ change: record.changes[0]!, outcome: 'restored' as const }],
    ...{ seconds: 0.31, problems: [] },
  };
  expect(drawn(page => drawResumed(page, resumed))).toContain("✅ Writes of 'shop' are possible again");
  const problems = ['a channel was not reached'];
  expect(drawn(page => drawResumed(page, { ...resumed, problems }))).toMatch(
    /⚠️ {2}Writes of 'shop' are possible again .*, with problems/,
  );
  expect(drawn(page => drawResumed(page, { ...resumed, resumed: false }))).toContain('nothing to put back');
});

const incident: Incident = {
  ...{
    format: 1,
    id: 'incident_20251027_140023_abc123',
    sequence: 1,
    instance: 'shop',
    systemIdentifier: '1',
  },
  ...{ toolVersion: 'test', severity: 'critical', status: 'open', resolution: null },
  ...{ detectedAt: '2025-10-27T14:00:23.892Z', updatedAt: '2025-10-27T14:00:23.892Z' },
  rule: { name: 'mass delete', explanation: 'more than 1,000 rows', confidence: 'certain' },
  transaction: {
    ...{ xid: 747, timeline: 1, beginLsn: null, endLsn: null, outcome: 'committed' },
    endedAt: '2025-10-27T14:00:23.145678Z',
  },
  tables: [
    {
      ...{ act: 'delete', database: 'shop', schema: 'public', table: 'users', oid: null },
      ...{ rows: 3_214_567, rowsBefore: 3_214_567 },
    },
  ],
  culprit: null,
  guard: { policy: 'hold', snapshot: null, autovacuumOff: [], cancelled: false },
  events: [],
};

test("stopped for a disaster - the tutorial's alert, in its order", () => {
  const text = drawn(page => drawStopped(page, { ...report, incident }));
  const parts = [
    ...[
      '🚨 EMERGENCY: DATA LOSS DETECTED',
      "Detected: 2025-10-27 14:00:23 UTC (by the agent, rule 'mass delete')",
    ],
    ...['Severity: CRITICAL', 'Incident:', 'DELETE removed 3,214,567 rows of shop: public.users'],
    ...['Data loss: about 100 % of the table', 'Impact: ALL ROWS OF shop: public.users AFFECTED'],
    ...['Immediate Actions Taken:', '(14:00:24)', 'Recommended:', 'aishell backup restore --xid 747'],
    ...[
      'aishell backup undo abc123',
      'aishell backup analyze-incident abc123',
      'aishell emergency resume-writes',
    ],
  ];
  let at = 0;
  for (const part of parts) {
    expect(text.slice(at), part).toContain(part);
    at = text.indexOf(part, at);
  }
  expect(text).not.toMatch(/Confidence|By:|Time to recovery/);
  // Where nobody can write, an undo could not either.
  const hard = drawn(page => drawStopped(page, { ...report, incident, level: 'hard' }));
  expect(hard).not.toContain('backup undo');
});

test('what nobody knows of a disaster - is not in the alert', () => {
  const [users] = incident.tables;
  const tables = users === undefined ? [] : [{ ...users, rowsBefore: null, table: 'a\u001b[2Jb' }];
  const culprit = {
    ...{ pid: 1, role: 'dev', application: '', client: null, database: null, query: null },
    ...{ queryStartedAt: null, transactionStartedAt: null },
  };
  const unsure: Incident = {
    ...incident,
    tables,
    culprit,
    rule: { ...incident.rule, confidence: 'possible' },
  };
  const text = drawn(page => drawStopped(page, { ...report, incident: unsure, recommended: null }));
  expect(text).not.toMatch(/Data loss:|ALL ROWS|Recommended/);
  expect(text).not.toContain('\u001b');
  expect(text).toContain('By: role dev\n');
  expect(text).toContain('Confidence: possible');
  const undone: Incident = { ...incident, transaction: { ...incident.transaction, outcome: 'rolled back' } };
  const calm = drawn(page => drawStopped(page, { ...report, incident: undone }));
  expect(calm).toContain('EMERGENCY: WRITES STOPPED');
  expect(calm).toContain('It was rolled back: nothing of it is lost.');
});
