import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { formatLsn, parseLsn, segmentName } from '../../../src/engines/postgres/lsn.ts';
import { planRecovery, type RecoveryPlan, timeUs } from '../../../src/operations/restore/plan-restore.ts';
import type { RecoveryRequest } from '../../../src/operations/restore/recovery-request.ts';
import { logPath, manifestPath } from '../../../src/repository/layout.ts';
import { putLogFile } from '../../../src/repository/log-archive.ts';
import type { BackupFacts } from '../../../src/repository/manifest.ts';
import type { Repository } from '../../../src/repository/repository.ts';
import { buildWal, type RecordToBuild } from '../../engines/postgres/wal-builder.ts';
import { memoryRepository, overwrite } from '../../repository/memory-repository.ts';
import { writeBackup } from '../../repository/write-backup.ts';

// Enough for a machine that is busy with other tests.
vi.setConfig({ testTimeout: 60_000 });

const MIB = 1024 * 1024;
const SECOND = 1_000_000n;
const owner = { instance: 'production', systemIdentifier: '7566129433051829306' };
/** Of the log that is made up: the start of its first segment, and the moment before its first commit. */
const FIRST = 2;
const BEGIN = timeUs('2025-10-27T14:00:00Z');

interface Commit {
  readonly xid: number;
  readonly timeUs: bigint;
  readonly lsn: bigint;
  readonly endLsn: bigint;
}

interface World {
  readonly repository: Repository;
  /** In the order of the log. */
  readonly commits: readonly Commit[];
  readonly segments: number;
}

/** An archive of segments; each entry is a segment, each number in it a commit so many seconds after the one before. */
async function world(pauses: readonly (readonly number[])[]): Promise<World> {
  const repository = memoryRepository();
  const records: RecordToBuild[] = [];
  const times: (bigint | null)[] = [];
  let now = BEGIN;
  let xid = 700;
  for (const segment of pauses) {
    for (const pause of segment) {
      now += BigInt(pause) * SECOND;
      records.push({ rmgr: 1, info: 0, xid, main: commitTime(now) });
      times.push(now);
      xid += 1;
    }
    // A switch of segments: the rest of it stays empty.
    records.push({ rmgr: 0, info: 0x40 });
    times.push(null);
  }
  const wal = buildWal({
    segmentSize: MIB,
    startLsn: BigInt(FIRST * MIB),
    records,
    systemIdentifier: BigInt(owner.systemIdentifier),
  });
  for (let index = 0; index < pauses.length; index += 1) {
    const bytes = wal.bytes.slice(index * MIB, (index + 1) * MIB);
    await putLogFile(repository, { ...owner, name: nameOf(index), bytes, level: 1 });
  }
  const commits = wal.records.flatMap(({ xid: number, lsn, endLsn }, index) => {
    const time = times[index];
    return time === null || time === undefined ? [] : [{ xid: number, timeUs: time, lsn, endLsn }];
  });
  return { repository, commits, segments: pauses.length };
}

const startOf = (index: number): bigint => BigInt((FIRST + index) * MIB);
const nameOf = (index: number): string => segmentName(1, startOf(index), MIB);

/** A commit record's main data: microseconds since 2000. */
function commitTime(us: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, us - timeUs('2000-01-01T00:00:00Z'), true);
  return bytes;
}

/** A backup that began and ended at the start of a segment, half a second after the last commit before it. */
async function backUp(
  { repository, commits }: World,
  segment: number,
  more: Partial<BackupFacts> = {},
): Promise<BackupFacts> {
  const start = BigInt((FIRST + segment) * MIB);
  const last = commits.filter(each => each.lsn < start).at(-1)?.timeUs ?? BEGIN - SECOND;
  const at = new Date(Number(last / 1000n) + 500).toISOString();
  const { backup } = await writeBackup(repository, [], {
    facts: {
      id: `backup_20251027_1400${String(segment).padStart(2, '0')}_abc123`,
      startLsn: formatLsn(start + 40n),
      stopLsn: formatLsn(start + 40n),
      startTime: at,
      stopTime: at,
      ...more,
    },
  });
  return backup;
}

function plan(
  { repository }: World,
  request: RecoveryRequest,
  options: { timeline?: number; securedUs?: bigint } = {},
): Promise<RecoveryPlan> {
  const { signal } = new AbortController();
  return planRecovery({ instance: 'production', repository }, request, {
    timeline: options.timeline ?? null,
    systemIdentifier: null,
    securedUs: options.securedUs ?? null,
    signal,
  });
}

/** The end of the last commit before a position, and not before the end of the backup. */
function frontOf({ commits }: World, backup: BackupFacts, lsn: bigint): bigint {
  const stop = parseLsn(backup.stopLsn);
  const kept = commits.findLast(each => each.lsn < lsn && each.lsn >= stop);
  return kept?.endLsn ?? stop;
}

const segments = fc.array(fc.array(fc.integer({ min: 1, max: 100 }), { maxLength: 3 }), {
  minLength: 2,
  maxLength: 8,
});

test('any log, any moment - the recovery stops before the first commit that is later, from the newest backup before it', async () => {
  await fc.assert(
    fc.asyncProperty(segments, fc.nat(), fc.integer({ min: 0, max: 900 }), async (pauses, at, seconds) => {
      const made = await world(pauses);
      const later = at % pauses.length;
      const bases = [...new Set([0, later])];
      const backups = [];
      for (const segment of bases) backups.push(await backUp(made, segment));
      const target = BEGIN + BigInt(seconds) * SECOND + SECOND / 4n;
      const request = { kind: 'time', timeUs: target } as const;
      const dropped = made.commits.find(each => each.timeUs > target);
      // Nothing says that nothing more was committed by then.
      if (dropped === undefined)
        await expect(plan(made, request)).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
      const found = await plan(made, request, { securedUs: target });
      const chosen = backups.findLastIndex(each => timeUs(each.stopTime) <= target);
      const first = bases[chosen]!;
      const inReach = made.commits.filter(each => each.lsn >= startOf(first));
      expect(found.backup.id).toBe(backups[chosen]!.id);
      // Behind the last record that is kept, so that nothing of the dropped one is replayed first.
      expect(found.resolved.lsn).toBe(
        dropped === undefined ? null : frontOf(made, backups[chosen]!, dropped.lsn),
      );
      expect(found.resolved.firstDropped?.xid).toBe(dropped?.xid);
      expect(found.resolved.lastKept?.xid).toBe(inReach.findLast(each => each.timeUs <= target)?.xid);
      // The record at the target may go on in the next segment.
      const { lsn } = found.resolved;
      const segment = lsn === null ? Infinity : Number(lsn / BigInt(MIB)) - FIRST + 1;
      const last = Math.min(made.segments - 1, segment);
      expect(found.logFiles.map(({ name }) => name)).toEqual(
        Array.from({ length: last - first + 1 }, (_, index) => nameOf(first + index)),
      );
    }),
    { numRuns: 25 },
  );
});

test('any log, any transaction - just before it or just after it', async () => {
  await fc.assert(
    fc.asyncProperty(segments, fc.nat(), fc.boolean(), async (pauses, which, after) => {
      fc.pre(pauses.some(each => each.length > 0));
      const made = await world([[], ...pauses]);
      const backup = await backUp(made, 0);
      const commit = made.commits[which % made.commits.length]!;
      const found = await plan(made, { kind: 'xid', xid: commit.xid, after });
      const last = made.commits.at(-1)!;
      const front = after ? commit.endLsn : frontOf(made, backup, commit.lsn);
      // The switch of the segment follows even the last commit.
      expect([found.resolved.lsn, commit.lsn > last.lsn]).toEqual([front, false]);
      expect((after ? found.resolved.lastKept : found.resolved.firstDropped)?.xid).toBe(commit.xid);
    }),
    { numRuns: 25 },
  );
});

test('the end of the log, a position - all of it, or up to there', async () => {
  const made = await world([[1, 2], [3], [], [4]]);
  const backup = await backUp(made, 0);
  const latest = await plan(made, { kind: 'latest' });
  expect([latest.resolved.lsn, latest.resolved.lastKept?.xid, latest.logFiles.length]).toEqual([
    null,
    703,
    4,
  ]);
  const { lsn } = made.commits[2]!;
  const found = await plan(made, { kind: 'lsn', lsn });
  expect([found.resolved.lsn, found.resolved.lastKept?.xid, found.resolved.firstDropped?.xid]).toEqual([
    lsn,
    701,
    702,
  ]);
  const alone = await plan(made, { kind: 'backup', id: backup.id });
  expect([alone.toBackupEnd, alone.logFiles.map(({ name }) => name)]).toEqual([true, [nameOf(0)]]);
});

const refusals: readonly (readonly [string, (made: World) => RecoveryRequest, string])[] = [
  ['before the first backup', () => ({ kind: 'time', timeUs: BEGIN - 10n * SECOND }), 'TARGET_UNREACHABLE'],
  [
    'in the future',
    () => ({ kind: 'time', timeUs: BigInt(Date.now()) * 1000n + 60n * SECOND }),
    'TARGET_UNREACHABLE',
  ],
  ['at a position before the first backup', () => ({ kind: 'lsn', lsn: 5n }), 'TARGET_UNREACHABLE'],
  ['at a position beyond the log', () => ({ kind: 'lsn', lsn: BigInt(99 * MIB) }), 'TARGET_UNREACHABLE'],
  ['at a transaction that is not there', () => ({ kind: 'xid', xid: 5, after: false }), 'LOG_NOT_FOUND'],
  [
    'at a backup that is not there',
    () => ({ kind: 'backup', id: 'backup_20200101_000000_000000' }),
    'BACKUP_NOT_FOUND',
  ],
];

test.each(refusals)('a target %s - refused, saying what can be reached', async (_, request, code) => {
  const made = await world([[1], [2]]);
  await backUp(made, 0);
  await expect(plan(made, request(made))).rejects.toMatchObject({
    code,
    hint: expect.stringMatching(/\w.{10}/),
  });
});

test('a hole in the log - what is before it is reached, its end is not taken for the end of the log', async () => {
  const made = await world([[1], [2], [3], [4]]);
  await backUp(made, 0);
  await made.repository.storage.delete(logPath(owner, nameOf(2)));
  expect((await plan(made, { kind: 'time', timeUs: made.commits[0]!.timeUs })).resolved.lsn).toBe(
    made.commits[0]!.endLsn,
  );
  const details = { missing: nameOf(2) };
  for (const request of [{ kind: 'latest' }, { kind: 'lsn', lsn: made.commits[3]!.lsn }] as const)
    await expect(plan(made, request)).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE', details });
  await expect(plan(made, { kind: 'xid', xid: made.commits[3]!.xid, after: false })).rejects.toMatchObject({
    code: 'LOG_NOT_FOUND',
  });
  await made.repository.storage.delete(logPath(owner, nameOf(0)));
  await expect(plan(made, { kind: 'latest' })).rejects.toMatchObject({
    code: 'TARGET_UNREACHABLE',
    details: { missing: nameOf(0) },
  });
});

test('a damaged manifest - another backup is the base, and that is told; with none left it is named', async () => {
  const made = await world([[1], [2], [3]]);
  const backups = [await backUp(made, 0), await backUp(made, 2)];
  const path = manifestPath('production', backups[1]!.id);
  await overwrite(made.repository, path, (await made.repository.storage.get(path))!.subarray(1));
  const found = await plan(made, { kind: 'latest' });
  expect([found.backup.id, found.passedOver]).toEqual([backups[0]!.id, [expect.stringContaining(path)]]);
  await overwrite(made.repository, manifestPath('production', backups[0]!.id), new Uint8Array(3));
  await expect(plan(made, { kind: 'latest' })).rejects.toMatchObject({ code: 'CORRUPT' });
});

test('a damaged segment - the plan that has to read it is refused', async () => {
  const made = await world([[1], [2], [3]]);
  await backUp(made, 0);
  const path = logPath(owner, nameOf(2));
  await overwrite(made.repository, path, (await made.repository.storage.get(path))!.subarray(0, -5));
  await expect(plan(made, { kind: 'latest' })).rejects.toMatchObject({
    code: 'CORRUPT',
    message: expect.stringContaining(path),
  });
});

test('a backup that carries its log, and no archive - its end, and nothing beyond', async () => {
  const made = await world([]);
  const backup = await backUp(made, 0, { logIncluded: true, logArchived: false });
  expect(await plan(made, { kind: 'latest' })).toMatchObject({
    backup: { id: backup.id },
    logFiles: [],
    resolved: { lsn: null },
  });
  await expect(plan(made, { kind: 'time', timeUs: BEGIN + 60n * SECOND })).rejects.toMatchObject({
    code: 'TARGET_UNREACHABLE',
    hint: expect.stringContaining(`--backup-id ${backup.id}`),
  });
});

test('after a restore - the newest timeline is followed, a backup of the abandoned part of the old one is no base', async () => {
  const made = await world([[1], [2], [3], [4]]);
  const backups = [await backUp(made, 0), await backUp(made, 3)];
  const left = made.commits[2]!.lsn;
  await putLogFile(made.repository, {
    ...owner,
    name: '00000002.history',
    bytes: Buffer.from(`1\t${formatLsn(left)}\tbefore\n`),
    level: 1,
  });
  const wal = buildWal({
    segmentSize: MIB,
    startLsn: BigInt((FIRST + 2) * MIB),
    timeline: 2,
    records: [{ rmgr: 0, info: 0x40 }],
    systemIdentifier: BigInt(owner.systemIdentifier),
  });
  const name = segmentName(2, BigInt((FIRST + 2) * MIB), MIB);
  await putLogFile(made.repository, { ...owner, name, bytes: wal.bytes, level: 1 });
  const found = await plan(made, { kind: 'latest' });
  expect([found.timeline, found.backup.id]).toEqual([2, backups[0]!.id]);
  expect(found.logFiles.map(each => each.name)).toEqual([nameOf(0), nameOf(1), name, '00000002.history']);
  const old = await plan(made, { kind: 'latest' }, { timeline: 1 });
  expect([old.timeline, old.backup.id, old.resolved.lastKept?.xid]).toEqual([1, backups[1]!.id, 703]);
});

test('times as servers write them', () => {
  expect(timeUs('2025-10-27T14:05:33.918305Z')).toBe(
    BigInt(Date.UTC(2025, 9, 27, 14, 5, 33)) * 1000n + 918_305n,
  );
  expect(timeUs('2025-10-27T14:05:33.5+01:00')).toBe(
    BigInt(Date.UTC(2025, 9, 27, 13, 5, 33)) * 1000n + 500_000n,
  );
  expect(timeUs('2025-10-27T14:05:33Z')).toBe(BigInt(Date.UTC(2025, 9, 27, 14, 5, 33)) * 1000n);
});

test('the clock was put back between two backups - the end of the log is reached from the later one all the same', async () => {
  const made = await world([[1], [1], [1], [1]]);
  await backUp(made, 0, { id: 'backup_20991231_235959_abc123' });
  const later = await backUp(made, 3);
  for (const request of [{ kind: 'latest' }, { kind: 'time', timeUs: made.commits.at(-1)!.timeUs }] as const)
    expect((await plan(made, request)).backup.id).toBe(later.id);
  // Without any archive each has its own log, and is all that can be reached.
  const repository = memoryRepository();
  const alone: World = { repository, commits: [], segments: 0 };
  await backUp(alone, 0, { id: 'backup_20991231_235959_abc123', logIncluded: true });
  const last = await backUp(alone, 3, { logIncluded: true });
  expect((await plan(alone, { kind: 'latest' })).backup.id).toBe(last.id);
});
