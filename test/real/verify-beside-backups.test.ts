import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { VerifyReport } from '../../src/operations/verify/verify-backups.ts';
import { putStopRecord } from '../../src/repository/emergency-archive.ts';
import { putIncident } from '../../src/repository/incident-archive.ts';
import { emergencyPath, incidentPath, logPath } from '../../src/repository/layout.ts';
import { putLogFile, putLogPart } from '../../src/repository/log-archive.ts';
import { openTestRepository } from '../support/backup-content.ts';
import { protect, resultOf } from '../support/instance.ts';
import { startTestCluster } from '../support/postgres.ts';

test('a flipped byte in records, in pieces of the log, in a .partial beside them - found and named, each', async () => {
  await using cluster = await startTestCluster({ version: 16 });
  const instance = await protect(cluster);
  const { backup } = await instance.backup();
  const repository = await openTestRepository(instance);
  const owner = { instance: 'shop', systemIdentifier: backup!.systemIdentifier };
  const segment = '0000000100000000000000F0';
  const begun = Buffer.alloc(8192);
  begun.writeUInt32LE(16 * 1024 * 1024, 32);
  await putLogPart(repository, { ...owner, segment, from: 0, bytes: begun, level: 1 });
  await putLogFile(repository, { ...owner, name: `${segment}.partial`, bytes: begun, level: 1 });
  const stop = 'stop_20271027_140024_abc123';
  const incident = 'incident_20271027_140023_abc123';
  await putStopRecord(repository, { instance: 'shop', stop, sequence: 1 }, { changes: [] });
  await putIncident(repository, { instance: 'shop', incident, sequence: 1 }, { id: incident });
  const keys = [
    logPath(owner, `${segment}.00000000-00002000.part`),
    logPath(owner, `${segment}.partial`),
    emergencyPath('shop', stop, '0001'),
    incidentPath('shop', incident, '0001'),
  ];
  const verify = ['backup', 'verify', '--all'];
  const before = await instance.run(verify);
  expect((before.json.at(-1)?.result as VerifyReport | undefined)?.problems).toEqual([]);
  for (const key of keys) {
    const path = join(instance.repository, key);
    const bytes = await readFile(path);
    for (const at of [30, 50, bytes.length - 20, bytes.length - 3]) {
      const flipped = Buffer.from(bytes);
      flipped[at] = flipped[at]! ^ 1;
      await writeFile(path, flipped);
      const done = await instance.run(verify);
      expect(done.exitCode, `${key} at ${at}`).toBe(9);
      const problems = (done.json.at(-1)?.result as VerifyReport | undefined)?.problems ?? [];
      expect(problems.map(each => each.object)).toEqual([key]);
    }
    await writeFile(path, bytes);
  }
  resultOf(await instance.run(['backup', 'list']));
});
