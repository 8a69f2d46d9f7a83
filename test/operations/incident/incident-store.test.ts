import { expect, test } from 'vitest';
import { type Incident, newIncidentId } from '../../../src/operations/incident/incident.ts';
import {
  readIncident,
  readIncidents,
  saveIncident,
  updateIncident,
} from '../../../src/operations/incident/incident-store.ts';
import { putIncident } from '../../../src/repository/incident-archive.ts';
import { memoryRepository } from '../../repository/memory-repository.ts';

test('incidents - the last state of each is read, by the id, its end, or as the last one', async () => {
  const owner = { repository: memoryRepository(), instance: 'shop' };
  await expect(readIncident(owner, 'latest')).rejects.toMatchObject({ code: 'INCIDENT_NOT_FOUND' });
  const first = incident('2027-10-27T14:00:23Z', 1);
  const second = incident('2027-10-27T14:00:24Z', 2);
  await saveIncident(owner, first);
  await saveIncident(owner, second);
  await saveIncident(owner, { ...first, sequence: 2, severity: 'warning' });
  await expect(saveIncident(owner, first)).rejects.toMatchObject({ code: 'LOCKED' });
  expect(await readIncident(owner, first.id)).toMatchObject({ id: first.id, severity: 'warning' });
  expect(await readIncident(owner, '000002')).toEqual(second);
  expect(await readIncident(owner, 'latest')).toEqual(second);
  expect((await readIncidents(owner)).map(each => each.id)).toEqual([first.id, second.id]);
  await expect(readIncident({ ...owner, instance: 'crm' }, first.id)).rejects.toMatchObject({
    code: 'INCIDENT_NOT_FOUND',
  });
});

test('an incident that many change at once - every change is in it', async () => {
  const owner = { repository: memoryRepository(), instance: 'shop' };
  const start = incident('2027-10-27T14:00:23Z', 1);
  await saveIncident(owner, start);
  const texts = Array.from({ length: 8 }, (_, n) => `change ${n}`);
  await Promise.all(
    texts.map(text =>
      updateIncident(owner, start.id, known => ({
        ...known,
        events: [...known.events, { at: known.detectedAt, event: 'noted', text }],
      })),
    ),
  );
  const { sequence, events } = await readIncident(owner, start.id);
  expect(sequence).toBe(9);
  expect(events.map(each => each.text).sort()).toEqual(texts);
});

test.each([
  ['another format', { id: newIncidentId(new Date(), Buffer.alloc(3)), format: 2 }, 'UNSUPPORTED'],
  ['not an incident', { id: '../../etc', format: 1 }, 'CORRUPT'],
])('a stored incident of %s - is refused', async (_, value, code) => {
  const owner = { repository: memoryRepository(), instance: 'shop' };
  await putIncident(owner.repository, { instance: 'shop', incident: 'incident_1', sequence: 1 }, value);
  await expect(readIncident(owner, 'incident_1')).rejects.toMatchObject({ code });
});

function incident(detectedAt: string, number: number): Incident {
  return {
    format: 1,
    id: newIncidentId(new Date(detectedAt), Buffer.from([0, 0, number])),
    sequence: 1,
    instance: 'shop',
    systemIdentifier: '7000000000000000001',
    toolVersion: '0.1.0',
    severity: 'critical',
    status: 'open',
    resolution: null,
    detectedAt,
    updatedAt: detectedAt,
    rule: { name: 'mass delete', explanation: '3,214,567 rows of 3,214,567', confidence: 'certain' },
    transaction: {
      xid: 27538,
      timeline: 1,
      beginLsn: null,
      endLsn: null,
      outcome: 'running',
      endedAt: null,
    },
    tables: [],
    culprit: null,
    guard: { policy: 'hold', snapshot: null, autovacuumOff: [], cancelled: false },
    events: [],
  };
}
