import type { StopRecord } from '../../../src/operations/emergency/stop-record.ts';

/** A record with what a test is about. */
export function stopRecord(of: Partial<StopRecord> = {}): StopRecord {
  return {
    format: 1,
    id: 'stop_20251027_140024_abc123',
    sequence: 1,
    instance: 'shop',
    systemIdentifier: '7566129433051829306',
    level: 'soft',
    reason: null,
    stoppedAt: '2025-10-27T14:00:24.012Z',
    by: { user: 'postgres', host: 'db1' },
    toolVersion: '0.1.0',
    controlDatabase: 'postgres',
    changes: [{ kind: 'setting', name: 'default_transaction_read_only', before: null, during: 'on' }],
    ...of,
  };
}
