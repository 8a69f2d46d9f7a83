import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { MIB } from '../../../src/base/sizes.ts';
import type { SegmentSummary } from '../../../src/engines/postgres/segment-summary.ts';
import {
  decodeSummary,
  encodeSummary,
  type StoredSummary,
} from '../../../src/engines/postgres/segment-summary-stored.ts';
import { mergeSummaries, summarizeSegment } from '../../../src/engines/postgres/summarize-segment.ts';
import { buildWal, type RecordToBuild } from './wal-builder.ts';
import * as wal from './wal-records.ts';

vi.setConfig({ testTimeout: 60_000 });

const segmentSize = MIB;
const startLsn = 0x1_0000_0000n - BigInt(segmentSize);
const table = { tablespace: 1663, database: 5, file: 16_384 };
const other = { tablespace: 1663, database: 5, file: 16_385 };

function summarize(records: readonly RecordToBuild[], magic?: number): SegmentSummary {
  const { bytes } = buildWal({ segmentSize, startLsn, records, ...(magic === undefined ? {} : { magic }) });
  return summarizeSegment(bytes, { lsn: startLsn, segmentSize });
}

/** The transactions that ended, without positions. */
function ended(summary: SegmentSummary): unknown[] {
  return [...summary.transactions()].map(({ xid, outcome, rows, dropped, created, gid }) => ({
    xid,
    outcome,
    rows: rows.map(each => [each.relation.file, each.inserted, each.updated, each.deleted]),
    ...(dropped.length === 0 ? {} : { dropped: dropped.map(({ file }) => file) }),
    ...(created.length === 0 ? {} : { created: created.map(({ file }) => file) }),
    ...(gid === null ? {} : { gid }),
  }));
}

describe('rows of transactions', () => {
  test('every kind of change - counted for its relation and transaction', () => {
    const summary = summarize([
      wal.insert(10, table, 1),
      wal.multiInsert(10, table, 2, 77),
      wal.update(10, table, 3),
      wal.hotUpdate(10, table, 3),
      wal.remove(10, table, 3),
      wal.remove(11, other, 4),
      wal.commit(10, 1_700_000_000_000_001n),
      wal.commit(11, 1_700_000_001_000_000n),
    ]);
    expect(ended(summary)).toEqual([
      { xid: 10, outcome: 'commit', rows: [[16_384, 78, 2, 1]] },
      { xid: 11, outcome: 'commit', rows: [[16_385, 0, 0, 1]] },
    ]);
    expect(summary.seconds.map(({ second, commits, rows }) => [second, commits, rows.length])).toEqual([
      [1_700_000_000, 1, 1],
      [1_700_000_001, 1, 1],
    ]);
    const [first] = summary.transactions();
    expect(first).toMatchObject({ firstLsn: startLsn + 40n, timeUs: 1_700_000_000_000_001n, database: 5 });
  });

  test('a speculative insert - counts once it is confirmed, and not at all when it is taken back', () => {
    const summary = summarize([
      wal.insert(10, table, 1, { speculative: true }),
      wal.confirm(10, table, 1),
      wal.insert(10, table, 1, { speculative: true }),
      wal.remove(10, table, 1, { super: true }),
      wal.commit(10, 1n),
    ]);
    expect(ended(summary)).toEqual([{ xid: 10, outcome: 'commit', rows: [[16_384, 1, 0, 0]] }]);
  });

  test('locks, pruning, changes in place - are no changes of rows', () => {
    const summary = summarize([
      wal.lock(10, table, 1),
      wal.inPlace(10, table, 1),
      wal.prune(0, table, 1),
      wal.commit(10, 1n),
    ]);
    expect(ended(summary)).toEqual([{ xid: 10, outcome: 'commit', rows: [] }]);
  });

  test('subtransactions - those released end with it, those rolled back by themselves', () => {
    const summary = summarize([
      wal.insert(10, table, 1),
      wal.insert(11, table, 1),
      wal.insert(12, table, 1),
      wal.abort(12, 5n),
      wal.insert(13, table, 1),
      wal.commit(10, 6n, { subxids: [11, 13] }),
      wal.insert(14, table, 1),
      wal.assignment(14, [15]),
      wal.insert(15, table, 1),
    ]);
    expect(ended(summary)).toEqual([
      { xid: 12, outcome: 'abort', rows: [[16_384, 1, 0, 0]] },
      { xid: 10, outcome: 'commit', rows: [[16_384, 3, 0, 0]] },
    ]);
    expect(summary.open.map(({ xid }) => xid)).toEqual([14, 15]);
  });

  test('relations dropped and created - are named, with a transaction that got its xid only afterwards', () => {
    const created = { ...table, file: 20_000 };
    const late = { ...table, file: 20_001 };
    const summary = summarize([
      wal.createRelation(10, created),
      wal.createRelation(0, late),
      wal.lockRelation(11, late),
      wal.commit(10, 1n, { dropped: [table] }),
      wal.commit(11, 1n),
    ]);
    expect(ended(summary)).toEqual([
      { xid: 10, outcome: 'commit', rows: [], dropped: [16_384], created: [20_000] },
      { xid: 11, outcome: 'commit', rows: [], created: [20_001] },
    ]);
    expect(summary.storage.map(({ kind }) => kind)).toEqual([
      'relation created',
      'relation created',
      'relation dropped',
    ]);
  });

  test('a crash - ends what was running, and not what was prepared', () => {
    const summary = summarize([
      wal.insert(10, table, 1),
      wal.insert(11, table, 1),
      wal.prepare(11, 'eleven', 4n),
      wal.shutdownCheckpoint(),
    ]);
    expect(ended(summary)).toEqual([{ xid: 10, outcome: 'abort', rows: [[16_384, 1, 0, 0]] }]);
    expect([...summary.transactions()][0]).toMatchObject({ endLsn: null, timeUs: null });
    expect(summary.open).toMatchObject([{ xid: 11, outcome: 'prepare', gid: 'eleven' }]);
  });
});

const anyTransaction = fc.nat(12);
const anyTable = fc.integer({ min: 16_384, max: 16_388 }).map(file => ({ ...table, file }));
const anyBlock = fc.nat(200);
const anyTime = fc.nat(5_000_000).map(us => 1_700_000_000_000_000n + BigInt(us));

/** What one of a dozen transactions does next. */
type Step = (log: LogToBuild) => RecordToBuild | null;

/** As on a server, an xid that has ended is never used again. */
class LogToBuild {
  readonly #xids = new Map<number, number>();
  readonly #prepared = new Set<number>();
  #next = 100;

  xid(transaction: number): number {
    const known = this.#xids.get(transaction);
    if (known !== undefined) return known;
    this.#next += 1;
    this.#xids.set(transaction, this.#next);
    return this.#next;
  }

  isPrepared(transaction: number): boolean {
    return this.#prepared.has(transaction);
  }

  prepare(transaction: number): number {
    this.#prepared.add(transaction);
    return this.xid(transaction);
  }

  end(transaction: number): number {
    const xid = this.xid(transaction);
    this.#xids.delete(transaction);
    this.#prepared.delete(transaction);
    return xid;
  }

  crash(): void {
    for (const transaction of [...this.#xids.keys()])
      if (!this.isPrepared(transaction)) this.#xids.delete(transaction);
  }
}

/** A step that only a transaction that is running can take. */
const running = (step: (xid: number, log: LogToBuild) => RecordToBuild, transaction: number): Step => {
  return log => (log.isPrepared(transaction) ? null : step(log.xid(transaction), log));
};

const rowSteps = fc.oneof(
  fc.tuple(anyTransaction, anyTable, anyBlock).map(([t, ...at]) => running(xid => wal.insert(xid, ...at), t)),
  fc.tuple(anyTransaction, anyTable, anyBlock).map(([t, ...at]) => running(xid => wal.remove(xid, ...at), t)),
  fc
    .tuple(anyTransaction, anyTable, anyBlock, fc.integer({ min: 1, max: 99 }))
    .map(([t, ...at]) => running(xid => wal.multiInsert(xid, ...at), t)),
  fc.tuple(anyTable, anyBlock).map(
    ([relation, block]): Step =>
      () =>
        wal.pageImage(relation, block),
  ),
);

const endSteps = fc.oneof(
  fc
    .tuple(
      anyTransaction,
      anyTime,
      fc.uniqueArray(anyTransaction, { maxLength: 3 }),
      fc.array(anyTable, { maxLength: 2 }),
    )
    .map(
      ([t, time, subs, dropped]): Step =>
        log => {
          if (log.isPrepared(t)) return null;
          const own = subs.filter(sub => sub !== t && !log.isPrepared(sub));
          return wal.commit(log.end(t), time, { subxids: own.map(sub => log.end(sub)), dropped });
        },
    ),
  fc.tuple(anyTransaction, anyTime).map(([t, time]) => running((_, log) => wal.abort(log.end(t), time), t)),
  fc
    .tuple(anyTransaction, fc.constantFrom('one', 'two'), anyTime)
    .map(([t, gid, time]) => running((_, log) => wal.prepare(log.prepare(t), gid, time), t)),
  fc.tuple(anyTransaction, anyTime).map(
    ([t, time]): Step =>
      log =>
        log.isPrepared(t) ? wal.commitPrepared(log.end(t), time) : null,
  ),
);

const otherSteps = fc.oneof(
  fc
    .tuple(anyTransaction, anyTable)
    .map(([t, relation]) => running(xid => wal.createRelation(xid, relation), t)),
  anyTable.map(
    (relation): Step =>
      () =>
        wal.createRelation(0, relation),
  ),
  fc
    .tuple(anyTransaction, anyTable)
    .map(([t, relation]) => running(xid => wal.lockRelation(xid, relation), t)),
  fc
    .tuple(anyTransaction, anyTransaction)
    .map(([t, sub]) =>
      running((xid, log) => wal.assignment(xid, t === sub || log.isPrepared(sub) ? [] : [log.xid(sub)]), t),
    ),
  fc.constant<Step>(log => {
    log.crash();
    return wal.shutdownCheckpoint();
  }),
  fc.constant<Step>(() => wal.switchSegment()),
);

// Beyond a page, and a few beyond one and several segments.
const bigSteps = fc
  .tuple(
    anyTransaction,
    fc.oneof(
      { weight: 8, arbitrary: fc.integer({ min: 1, max: 60_000 }) },
      { weight: 1, arbitrary: fc.integer({ min: 200_000, max: 2_500_000 }) },
    ),
  )
  .map(([t, bytes]) => running(xid => wal.message(xid, bytes), t));

function anyLog(steps: fc.Arbitrary<Step>, maxLength: number): fc.Arbitrary<RecordToBuild[]> {
  return fc
    .array(steps, { minLength: 1, maxLength, size: 'max' })
    .map(taken => {
      const log = new LogToBuild();
      return taken.map(step => step(log)).filter(record => record !== null);
    })
    .filter(records => records.length > 0);
}

const wideLog = anyLog(
  fc.oneof(
    { weight: 9, arbitrary: rowSteps },
    { weight: 5, arbitrary: endSteps },
    { weight: 3, arbitrary: otherSteps },
    { weight: 8, arbitrary: bigSteps },
  ),
  150,
);

/** Hundreds of small transactions. */
const busyLog = anyLog(
  fc.oneof(
    { weight: 20, arbitrary: rowSteps },
    {
      weight: 20,
      arbitrary: fc
        .tuple(anyTransaction, anyTime)
        .map(([t, time]) => running((_, log) => wal.commit(log.end(t), time), t)),
    },
    { weight: 3, arbitrary: endSteps },
    { weight: 1, arbitrary: bigSteps },
  ),
  600,
);

describe('merging', () => {
  // Fewer than the thousand of the real one: more than a dozen never run at once here.
  const fold = { belowRows: 200, behind: 15 };

  test('neighbours in any order of merging - the very bytes of the joined log', () => {
    let crossed = 0;
    let middles = 0;
    let left = 0;
    fc.assert(
      fc.property(fc.oneof(wideLog, busyLog), fc.boolean(), (records, fromRight) => {
        const { bytes } = buildWal({ segmentSize, startLsn, records });
        const joined = summarizeSegment(bytes, { lsn: startLsn, segmentSize, fold });
        const parts: SegmentSummary[] = [];
        for (let at = 0; at < bytes.length; at += segmentSize) {
          const part = bytes.subarray(at, at + segmentSize);
          parts.push(summarizeSegment(part, { lsn: startLsn + BigInt(at), segmentSize, fold }));
        }
        left += (joined as StoredSummary).facts.folded.count;
        crossed += parts.filter(({ tail }) => tail !== null).length;
        middles += parts.filter(({ head }) => head !== null && head.missingBehind > 0).length;
        const stored = parts.map(part => decodeSummary(encodeSummary(part)));
        const merged = fromRight
          ? stored.reduceRight((after, before) => mergeSummaries(before, after, fold))
          : stored.reduce((before, after) => mergeSummaries(before, after, fold));
        expect(Buffer.from(encodeSummary(merged)).equals(encodeSummary(joined))).toBe(true);
      }),
      // Shrinking a failure would take minutes.
      { numRuns: 50, interruptAfterTimeLimit: 30_000 },
    );
    expect(crossed).toBeGreaterThan(25);
    expect(middles).toBeGreaterThan(3);
    expect(left).toBeGreaterThan(200);
  });

  test('a gap, another system, a record that does not link - refused', () => {
    const records = [wal.message(10, 900_000), wal.message(10, 900_000), wal.message(10, 900_000)];
    const { bytes } = buildWal({ segmentSize, startLsn, records });
    const at = (index: number, from = bytes): SegmentSummary =>
      summarizeSegment(from.subarray(index * segmentSize, (index + 1) * segmentSize), {
        lsn: startLsn + BigInt(index * segmentSize),
        segmentSize,
      });
    expect(() => mergeSummaries(at(0), at(2))).toThrow(expect.objectContaining({ code: 'LOG_NOT_FOUND' }));
    const foreign = buildWal({ segmentSize, startLsn, records, systemIdentifier: 4711n }).bytes;
    expect(() => mergeSummaries(at(0), at(1, foreign))).toThrow(
      expect.objectContaining({ code: 'SYSTEM_MISMATCH' }),
    );
    const shifted = buildWal({
      segmentSize,
      startLsn,
      records: [wal.message(10, 899_000), ...records],
    }).bytes;
    expect(() => mergeSummaries(at(0), at(1, shifted))).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
    const whole = summarizeSegment(
      buildWal({ segmentSize, startLsn, records: [wal.message(10, 10), wal.switchSegment()] }).bytes,
      { lsn: startLsn, segmentSize },
    );
    // As pg_resetwal begins a log anew: with a record that links to none.
    const next = startLsn + BigInt(segmentSize);
    const reset = buildWal({ segmentSize, startLsn: next, records: [wal.message(10, 10)] }).bytes;
    const begunAnew = summarizeSegment(reset, { lsn: next, segmentSize });
    expect(() => mergeSummaries(whole, begunAnew)).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
  });
});

test('bytes that are no summary - CORRUPT or UNSUPPORTED, never another error or an endless loop', () => {
  const good = encodeSummary(
    summarize([
      wal.insert(10, table, 1),
      wal.commit(10, 1n, { dropped: [other] }),
      wal.createRelation(0, table),
      wal.insert(11, table, 7),
    ]),
  );
  const readAll = (bytes: Uint8Array): void => {
    const summary = decodeSummary(bytes);
    for (const each of summary.transactions()) void each.rows;
    void [summary.open, summary.seconds, summary.storage, summary.events, summary.pageCount];
  };
  readAll(good);
  const tryRead = (bytes: Uint8Array): void => {
    try {
      readAll(bytes);
    } catch (error) {
      expect(['CORRUPT', 'UNSUPPORTED']).toContain((error as { code?: string }).code);
    }
  };
  for (let at = 0; at < good.length; at += 1) {
    tryRead(good.subarray(0, at));
    for (const value of [0, 1, 0x7f, 0x80, 0xff])
      tryRead(Uint8Array.from(good, (byte, index) => (index === at ? value : byte)));
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), bytes => tryRead(Uint8Array.from([1, ...bytes]))));
});
