import { describe, expect, test } from 'vitest';
import { encodeSummary } from '../../../src/engines/postgres/segment-summary-stored.ts';
import { summarizeSegment } from '../../../src/engines/postgres/summarize-segment.ts';
import { logTransactions } from '../../../src/operations/log/log-transactions.ts';
import { type LogView, openLogView } from '../../../src/operations/log/log-view.ts';
import { resolveTarget } from '../../../src/operations/restore/resolve-target.ts';
import { putLogFile } from '../../../src/repository/log-archive.ts';
import { putLogSummary } from '../../../src/repository/log-summary.ts';
import {
  abort,
  abortWithFile,
  commit,
  endPrepared,
  prepare,
  restorePoint,
  work,
} from '../../engines/postgres/transaction-records.ts';
import { buildWal, type RecordToBuild } from '../../engines/postgres/wal-builder.ts';
import { memoryRepository } from '../../repository/memory-repository.ts';
import { seeded } from '../../support/seeded.ts';

const MIB = 1024 * 1024;
const START = BigInt(2 * MIB);
const owner = { instance: 'production', systemIdentifier: '7566129433051829306' };
const BEGIN = 1_761_573_600_000_000n;
const { signal } = new AbortController();

/** The log of these records, with or without the summaries of its segments; `read` counts how often each was read. */
async function logOf(records: readonly RecordToBuild[], summarised: boolean) {
  const repository = memoryRepository();
  const { systemIdentifier } = owner;
  const options = { segmentSize: MIB, systemIdentifier };
  const wal = buildWal({
    ...options,
    startLsn: START,
    records,
    systemIdentifier: BigInt(systemIdentifier),
  });
  const segments = Math.ceil(wal.bytes.length / MIB);
  for (let index = 0; index < segments; index += 1) {
    const bytes = new Uint8Array(MIB);
    bytes.set(wal.bytes.subarray(index * MIB, (index + 1) * MIB));
    const lsn = START + BigInt(index * MIB);
    const name = `00000001${'0'.repeat(8)}${(2 + index).toString(16).toUpperCase().padStart(8, '0')}`;
    await putLogFile(repository, { ...owner, name, bytes, level: 1 });
    if (!summarised) continue;
    const summary = encodeSummary(summarizeSegment(bytes, { ...options, lsn }));
    await putLogSummary(repository, { ...owner, name, bytes: summary }, { signal });
  }
  const source = { owner, segmentSize: MIB, timeline: 1, backupTimelines: [1] };
  const opened = await openLogView(repository, source, signal);
  const read = new Map<bigint, number>();
  const view: LogView = {
    ...opened,
    read: lsn => {
      read.set(lsn, (read.get(lsn) ?? 0) + 1);
      return opened.read(lsn);
    },
  };
  const to = START + BigInt(segments * MIB);
  return {
    log: logTransactions({ repository, view }, { from: START, to }, signal),
    read,
    to,
    built: wal.records,
  };
}

/**
 * Work that fills about so many segments. Where a segment ends within a header, its summary does not tell what follows, and it is read.
 */
const fill = (xid: number, segments: number): RecordToBuild[] =>
  Array.from({ length: Math.round(segments * 512) }, () => work(xid));

describe('the ends of transactions with the summaries of segments', () => {
  test('ends, prepared ones and restore points at random, many across two segments - as without summaries', async () => {
    for (let seed = 1; seed <= 2; seed += 1) {
      const random = seeded(seed);
      const records: RecordToBuild[] = [];
      let timeUs = BEGIN;
      for (let xid = 700; records.length < 3000; xid += 1) {
        records.push(...fill(xid, random(150) / 100));
        timeUs += BigInt(random(3_000_000));
        const kinds = [commit, commit, abort, abortWithFile, prepare];
        const kind = random(7);
        if (kind < kinds.length) records.push(kinds[kind]!(xid, timeUs));
        else if (kind === 5) records.push(restorePoint(`point ${xid}`, timeUs));
        else records.push(prepare(xid, timeUs), ...fill(xid + 1, 1), endPrepared(xid, timeUs + 1n, 'commit'));
      }
      const plain = await logOf(records, false);
      const quick = await logOf(records, true);
      for (let at = START; at < plain.to; at += BigInt(MIB)) {
        expect(await quick.log.inSegment(at)).toEqual(await plain.log.inSegment(at));
        expect(await quick.log.restorePointsIn(at)).toEqual(await plain.log.restorePointsIn(at));
      }
      for (let step = 0; step < 10; step += 1) {
        const request = { kind: 'time', timeUs: BEGIN + (BigInt(step) * (timeUs - BEGIN)) / 12n } as const;
        const options = { securedUs: null, floor: START };
        const [found, expected] = await Promise.all([
          resolveTarget((await logOf(records, true)).log, request, options),
          resolveTarget(plain.log, request, options),
        ]);
        expect(found, `seed ${seed}, step ${step}`).toEqual(expected);
      }
    }
  });

  test('a commit that goes on in the next segment - is listed where it begins', async () => {
    const records = Array.from({ length: 60_000 }, (_, index) => commit(700 + index, BEGIN + BigInt(index)));
    for (const summarised of [false, true]) {
      const { log, to, built } = await logOf(records, summarised);
      const found: bigint[] = [];
      for (let at = START; at < to; at += BigInt(MIB)) {
        const listed = (await log.inSegment(at)).map(({ lsn }) => lsn);
        expect(listed.every(lsn => lsn >= at && lsn < at + BigInt(MIB))).toBe(true);
        found.push(...listed);
      }
      expect(found).toEqual(built.map(({ lsn }) => lsn));
    }
  });

  test('a transaction that fills segments - those in its middle are not read', async () => {
    const records = [
      abort(698, BEGIN),
      abort(699, BEGIN),
      commit(700, BEGIN),
      ...fill(701, 6),
      commit(701, BEGIN + 5_000_000n),
      ...fill(702, 1),
      commit(702, BEGIN + 9_000_000n),
      ...fill(703, 1),
    ];
    const { log, read } = await logOf(records, true);
    const request = { kind: 'time', timeUs: BEGIN + 1_000_000n } as const;
    const resolved = await resolveTarget(log, request, { securedUs: null, floor: START });
    expect(resolved).toMatchObject({ lastKept: { xid: 700 }, firstDropped: { xid: 701 } });
    for (let segment = 2; segment < 5; segment += 1)
      expect(read.has(START + BigInt(segment * MIB)), `segment ${segment}`).toBe(false);
  });
});
