import { expect, test } from 'vitest';
import {
  type Change,
  isStricter,
  mergeChanges,
  newStopId,
  parseStopRecord,
} from '../../../src/operations/emergency/stop-record.ts';
import { stopRecord } from './stop-records.ts';

const setting = (before: string | null, during: string): Change => ({
  kind: 'setting',
  name: 'default_transaction_read_only',
  before,
  during,
});

test('a later stop that finds what an earlier one changed - the value from before the first is kept', () => {
  const later: Change[] = [setting('on', 'on'), { kind: 'standby-signal', dataDirectory: '/data' }];
  expect(mergeChanges([setting('off', 'on')], later)).toEqual([setting('off', 'on'), later[1]]);
});

test('databases of one name - are told apart by their oid, roles by their database', () => {
  const database = (oid: number): Change => ({
    kind: 'database',
    oid,
    name: 'shop',
    before: { allowConnections: true, connectionLimit: -1 },
    during: { allowConnections: false, connectionLimit: -1 },
  });
  const role = (inDatabase: string | null): Change => ({
    kind: 'role-setting',
    role: 'app',
    database: inDatabase,
    name: 'default_transaction_read_only',
    before: 'off',
    during: 'on',
  });
  const changes = [database(1), database(2), role(null), role('shop')];
  expect(mergeChanges(changes, changes)).toEqual(changes);
});

test('an id - sorts by time and is a valid part of a key', () => {
  const id = newStopId(new Date('2025-10-27T14:00:24.012Z'), Uint8Array.of(0xab, 0xc1, 0x23));
  expect(id).toBe('stop_20251027_140024_abc123');
  expect(parseStopRecord(stopRecord({ id }), 'a test').id).toBe(id);
});

test('levels - from the gentlest to the surest', () => {
  expect([isStricter('hard', 'soft'), isStricter('strict', 'hard'), isStricter('soft', 'soft')]).toEqual([
    ...[true, true, false],
  ]);
});

test('a record that is read back - is the same', () => {
  const record = stopRecord({ reason: 'a "test"' });
  expect(parseStopRecord(JSON.parse(JSON.stringify(record)), 'a test')).toEqual(record);
});

test.each([
  ['no object', null, 'CORRUPT'],
  ['no changes', { ...stopRecord(), changes: undefined }, 'CORRUPT'],
  ['a change that is none', { ...stopRecord(), changes: [null] }, 'CORRUPT'],
  ['an unknown level', { ...stopRecord(), level: 'total' }, 'CORRUPT'],
  ['an id that is a path', { ...stopRecord(), id: 'stop_../x' }, 'CORRUPT'],
  ['no system', { ...stopRecord(), systemIdentifier: '' }, 'CORRUPT'],
  ['an unknown kind of change', { ...stopRecord(), changes: [{ kind: 'firewall' }] }, 'UNSUPPORTED'],
  ['a newer format', { ...stopRecord(), format: 2 }, 'UNSUPPORTED'],
])('a record with %s - is refused', (_, value, code) => {
  expect(() => parseStopRecord(value, 'a test')).toThrow(expect.objectContaining({ code }));
});
