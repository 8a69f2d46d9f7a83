import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AlertPolicy } from '../../src/notify/alert-policy.ts';
import type { Message, Notification } from '../../src/notify/notification.ts';
import { type TemporaryDirectory, temporaryDirectory } from '../support/temp.ts';
import { testCertificate } from './test-certificate.ts';

/** The alert of the tutorial. */
export const massDelete: Notification = {
  kind: 'incident',
  severity: 'critical',
  instance: 'production',
  title: "DELETE operation removed 3,214,567 rows from 'users' table",
  facts: [
    ['Detected', '2025-10-27 14:00:23 UTC'],
    ['Data loss', '100% of table'],
    ['Query', 'DELETE FROM users WHERE 1=1 AND a <> b & c'],
  ],
  commands: [
    {
      title: 'Restore to just before',
      command: 'aishell backup restore --point-in-time "2025-10-27 13:59:59"',
    },
  ],
  dedupKey: 'aishell/production/incident/i-1',
  incidentId: 'i-1',
};

export function messageOf(notification: Notification): Message {
  return {
    id: '0b9d1c52-7c1f-4a9e-8a0e-0d6c5f4f2a11',
    notification,
    raisedAt: new Date('2025-10-27T14:00:23.145Z'),
    isLate: false,
  };
}

export const everything = { minSeverity: 'info', kinds: null } as const;

export const allTold: AlertPolicy = {
  onIncident: { channels: null },
  onFailure: { channels: null, severity: 'warning' },
  onSuccess: { channels: null, severity: 'info', frequency: 'weekly' },
  repeatAfterMs: 4 * 3_600_000,
  mostPerHour: 60,
};

/** A directory with the certificate that the receivers show. */
export async function directoryWithCa(): Promise<TemporaryDirectory & { readonly ca: string }> {
  const directory = await temporaryDirectory();
  const ca = join(directory.path, 'ca.pem');
  await writeFile(ca, testCertificate.cert);
  return Object.assign(directory, { ca });
}

export const never = new AbortController().signal;
