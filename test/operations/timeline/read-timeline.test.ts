import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { segmentName } from '../../../src/engines/postgres/lsn.ts';
import { POSTGRES_EPOCH_US } from '../../../src/engines/postgres/wal-transactions.ts';
import type { InstanceContext } from '../../../src/operations/instance-context.ts';
import { openLogView } from '../../../src/operations/log/log-view.ts';
import { clipRuns } from '../../../src/operations/timeline/clip-runs.ts';
import { readTimeline } from '../../../src/operations/timeline/read-timeline.ts';
import type { TimelineReport, TimelineRequest } from '../../../src/operations/timeline/timeline-report.ts';
import { putIdentity } from '../../../src/repository/identity.ts';
import { logPath } from '../../../src/repository/layout.ts';
import { putLogFile } from '../../../src/repository/log-archive.ts';
import type { Repository } from '../../../src/repository/repository.ts';
import { buildWal, type RecordToBuild } from '../../engines/postgres/wal-builder.ts';
import { memoryRepository } from '../../repository/memory-repository.ts';

vi.setConfig({ testTimeout: 60_000 });

const MIB = 1024 * 1024;
const FIRST = 2;
const owner = { instance: 'production', systemIdentifier: '7566129433051829306' };
const BEGIN = 1_761_573_600;
const { signal } = new AbortController();
const startOf = (index: number): bigint => BigInt((FIRST + index) * MIB);
const nameOf = (index: number): string => segmentName(1, startOf(index), MIB);

/** A segment for each entry, a commit for each number in it: that many seconds after {@link BEGIN}. */
async function archive(segments: readonly (readonly number[])[]): Promise<Repository> {
  const repository = memoryRepository();
  const records: RecordToBuild[] = [];
  let xid = 700;
  for (const seconds of segments) {
    for (const second of seconds) {
      const main = new Uint8Array(8);
      const us = BigInt(BEGIN + second) * 1_000_000n + 5n - POSTGRES_EPOCH_US;
      new DataView(main.buffer).setBigInt64(0, us, true);
      records.push({ rmgr: 1, info: 0, xid, main });
      xid += 1;
    }
    records.push({ rmgr: 0, info: 0x40 });
  }
  const systemIdentifier = BigInt(owner.systemIdentifier);
  const wal = buildWal({ segmentSize: MIB, startLsn: startOf(0), records, systemIdentifier });
  for (let index = 0; index < segments.length; index += 1) {
    const bytes = wal.bytes.slice(index * MIB, (index + 1) * MIB);
    await putLogFile(repository, { ...owner, name: nameOf(index), bytes, level: 1 });
  }
  const { instance, systemIdentifier: system } = owner;
  await putIdentity(repository, {
    instance,
    engine: 'postgresql',
    systemIdentifier: system,
    serverVersion: 180_000,
    created: '2025-10-27T13:00:00Z',
  });
  return repository;
}

/** A repository whose server is gone. */
function contextOf(repository: Repository): InstanceContext {
  return {
    instance: 'production',
    repository,
    location: { kind: 'memory', name: 'nowhere' },
    connection: { host: '127.0.0.1', port: 1, user: 'nobody', database: 'postgres', connectTimeoutMs: 1000 },
    dataDirectory: null,
    binaries: null,
    service: { kind: 'auto' },
    level: 1,
    workers: 1,
    toolVersion: 'test',
    recoveryTimeObjectiveSeconds: null,
    stateDirectory: null,
  } as unknown as InstanceContext;
}

async function timelineOf(
  repository: Repository,
  request: Partial<TimelineRequest>,
): Promise<{ readonly report: TimelineReport; readonly progress: number[] }> {
  const progress: number[] = [];
  const report = await readTimeline(
    contextOf(repository),
    {
      fromUs: null,
      toUs: null,
      table: null,
      minimumRows: 1000,
      limit: 10,
      mostBuckets: 60,
      timeline: null,
      ...request,
    },
    { signal, onEvent: event => event.type === 'progress' && progress.push(event.done ?? 0) },
  );
  return { report, progress };
}

const at = (second: number): bigint => BigInt(BEGIN + second) * 1_000_000n;

test('the server is gone, some log is missing - what there is, with the hole named', async () => {
  const repository = await archive([[0, 1], [60], [120], [180], [240, 241]]);
  await repository.storage.delete(logPath(owner, nameOf(2)));
  const { report, progress } = await timelineOf(repository, { fromUs: at(0), toUs: at(300) });
  expect(report.totals.commits).toBe(6);
  expect(report.log).toMatchObject({
    segments: 4,
    gaps: [{ missing: nameOf(2), from: '0/400000', to: '0/500000' }],
    switches: [],
  });
  expect(report.buckets.filter(each => each.commits > 0).map(each => each.commits)).toEqual([2, 1, 1, 2]);
  expect([report.from, report.to]).toEqual(['2025-10-27T14:00:00.000000Z', '2025-10-27T14:05:00.000000Z']);
  expect(progress.at(-1)).toBe(4);
});

test('a part of the time - only what was committed in it, to the second', async () => {
  const repository = await archive([[0, 1], [60], [120], [180], [240, 241]]);
  const { report } = await timelineOf(repository, { fromUs: at(60), toUs: at(180) });
  expect(report.totals.commits).toBe(3);
});

test('nothing archived, an instance that nobody knows - refused with the next step', async () => {
  await expect(timelineOf(await archive([]), {})).rejects.toMatchObject({
    code: 'LOG_NOT_FOUND',
    hint: expect.stringContaining('doctor'),
  });
  await expect(timelineOf(memoryRepository(), {})).rejects.toMatchObject({ code: 'INSTANCE_NOT_FOUND' });
});

test('days of log - a part of the time is found by halves, and nothing of it is missed', async () => {
  const pauses = fc.array(fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 2 }), {
    minLength: 30,
    maxLength: 60,
  });
  await fc.assert(
    fc.asyncProperty(pauses, fc.nat(5000), fc.nat(5000), async (segments, a, b) => {
      let now = 0;
      const times = segments.map(segment => segment.map(pause => (now += pause)));
      const repository = await archive(times);
      const source = { owner, segmentSize: MIB, timeline: 1, backupTimelines: [1] };
      const view = await openLogView(repository, source, signal);
      const runs = [{ from: startOf(0), to: startOf(segments.length) }];
      const range = { from: BEGIN + Math.min(a, b), to: BEGIN + Math.max(a, b) };
      const clipped = await clipRuns({ instance: 'production', repository }, { view, runs }, range, signal);
      for (const [index, seconds] of times.entries()) {
        const isWanted = seconds.some(each => BEGIN + each >= range.from && BEGIN + each <= range.to);
        const isThere = clipped.some(run => run.from <= startOf(index) && startOf(index) < run.to);
        if (isWanted) expect(isThere, `segment ${index}`).toBe(true);
      }
    }),
    { numRuns: 4 },
  );
});

test('two hours of two days - a few segments are read', async () => {
  const repository = await archive(Array.from({ length: 48 }, (_, index) => [index * 3600]));
  const { report } = await timelineOf(repository, { fromUs: at(20 * 3600), toUs: at(22 * 3600) });
  expect(report.totals.commits).toBe(3);
  expect(report.log.segments).toBeLessThanOrEqual(6);
});
