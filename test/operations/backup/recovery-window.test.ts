import { expect, test } from 'vitest';
import { recoveryWindow } from '../../../src/operations/backup/recovery-window.ts';
import { putLogFile } from '../../../src/repository/log-archive.ts';
import type { BackupFacts } from '../../../src/repository/manifest.ts';
import { memoryRepository } from '../../repository/memory-repository.ts';
import { writeBackup } from '../../repository/write-backup.ts';

const MIB = 1024 * 1024;
const owner = { instance: 'production', systemIdentifier: '7566129433051829306' };
const signal = AbortSignal.timeout(60_000);
const older = { id: 'backup_20251027_140000_abc123', stopLsn: '0/200100', timeline: 1 };
const newer = { id: 'backup_20251027_150000_abc123', stopLsn: '0/500100', timeline: 1 };

/** Segments by the last two digits of their names: `1-2` is that of timeline 1 which begins at 0/200000. */
async function windowOf(
  segments: readonly string[],
  backups: readonly Partial<BackupFacts>[],
  history?: string,
): Promise<string | null> {
  const repository = memoryRepository();
  const put = (name: string, content: string): Promise<unknown> =>
    putLogFile(repository, { ...owner, name, bytes: Buffer.from(content), level: null });
  for (const segment of segments) {
    const [timeline = '', number = ''] = segment.split('-');
    await put(`0000000${timeline}00000000${number.padStart(8, '0')}`, '');
  }
  if (history !== undefined) await put('00000002.history', history);
  const facts: BackupFacts[] = [];
  for (const each of backups) {
    const identity = { ...owner, walSegmentSize: MIB };
    const { backup } = await writeBackup(repository, [{ path: 'x', bytes: Buffer.from('x') }], {
      facts: { ...identity, ...each },
    });
    facts.push(backup);
  }
  const found = await recoveryWindow({ repository, instance: owner.instance }, facts, signal);
  return found && `${found.backup} to ${found.toLsn} on ${found.timeline}`;
}

test('a log without a gap - from the end of the oldest backup to its own', async () => {
  const all = ['1-2', '1-3', '1-4', '1-5', '1-6'];
  expect(await windowOf(all, [older, newer])).toBe(`${older.id} to 0/700000 on 1`);
});

test('a gap - from the oldest backup behind it; behind all of them: there is none', async () => {
  expect(await windowOf(['1-2', '1-3', '1-5', '1-6'], [older, newer])).toBe(`${newer.id} to 0/700000 on 1`);
  expect(await windowOf(['1-2', '1-3', '1-4', '1-5', '1-7'], [older, newer])).toBeNull();
});

test('a history that is damaged - there is none, and nothing fails', async () => {
  expect(await windowOf(['1-2', '1-3', '2-3', '2-4'], [older])).toBeNull();
});

test('no log, no backup, log up to the end of the backup only - there is none', async () => {
  expect(await windowOf([], [older])).toBeNull();
  expect(await windowOf(['1-2'], [])).toBeNull();
  expect(await windowOf(['1-1'], [older])).toBeNull();
});

test('a timeline that was left before a backup ended - that backup counts no more', async () => {
  const segments = ['1-2', '1-3', '1-4', '1-5', '1-6', '2-3', '2-4', '2-5', '2-6'];
  expect(await windowOf(segments, [older, newer], '1\t0/300080\tbefore x\n')).toBe(
    `${older.id} to 0/700000 on 2`,
  );
  expect(await windowOf(segments, [newer], '1\t0/300080\tbefore x\n')).toBeNull();
});
