import { beforeAll, describe, expect, test } from 'vitest';
import { MIB } from '../../../src/base/sizes.ts';
import { forkKey } from '../../../src/engines/postgres/change-map.ts';
import { segmentName } from '../../../src/engines/postgres/lsn.ts';
import type { SegmentSummary } from '../../../src/engines/postgres/segment-summary.ts';
import {
  beginChanges,
  changesSoFar,
  readActivity,
  readChanges,
  readSummaries,
} from '../../../src/operations/log/log-summaries.ts';
import { type LogView, openLogView } from '../../../src/operations/log/log-view.ts';
import { storeSegment } from '../../../src/operations/log/store-segment.ts';
import { logPath, logSummaryPath } from '../../../src/repository/layout.ts';
import { putLogSummary } from '../../../src/repository/log-summary.ts';
import type { Repository } from '../../../src/repository/repository.ts';
import { type BuiltRecord, buildWal, type RecordToBuild } from '../../engines/postgres/wal-builder.ts';
import * as wal from '../../engines/postgres/wal-records.ts';
import { collect, keysOf, memoryRepository, overwrite } from '../../repository/memory-repository.ts';

const segmentSize = MIB;
const startLsn = BigInt(segmentSize);
const owner = { instance: 'production', systemIdentifier: '7711141577650727535' };
const table = { tablespace: 1663, database: 5, file: 16_384 };
const { signal } = new AbortController();
const timeOf = (second: number): bigint => 1_700_000_000_000_000n + BigInt(second) * 1_000_000n;

/** Five segments: a transaction over all of them, one of 2,000 rows in the middle, a small one at each second. */
const records: RecordToBuild[] = [wal.pageImage(table, 3), wal.insert(10, table, 1)];
for (let second = 0; second < 40; second += 1) {
  const xid = 100 + second;
  records.push(
    wal.insert(xid, table, second + 2),
    wal.message(xid, 120_000),
    wal.commit(xid, timeOf(second)),
  );
  if (second === 18) records.push(wal.multiInsert(20, table, 500, 2000), wal.commit(20, timeOf(18)));
  if (second === 30)
    records.push(wal.remove(10, table, 700), wal.multiInsert(10, table, 3, 1500), wal.commit(10, timeOf(30)));
}

let built: { readonly bytes: Uint8Array; readonly records: BuiltRecord[] };
let repository: Repository;
let view: LogView;
let end: bigint;

async function archive(): Promise<void> {
  repository = memoryRepository();
  for (const { name, bytes } of segments())
    await storeSegment(repository, { ...owner, name, bytes, level: 1 });
  view = await openLogView(repository, { owner, segmentSize, timeline: null, backupTimelines: [1] }, signal);
}

function segments(): { name: string; lsn: bigint; bytes: Uint8Array }[] {
  const count = Math.ceil(built.bytes.length / segmentSize);
  return Array.from({ length: count }, (_, index) => {
    const bytes = new Uint8Array(segmentSize);
    bytes.set(built.bytes.subarray(index * segmentSize, (index + 1) * segmentSize));
    const lsn = startLsn + BigInt(index * segmentSize);
    return { name: segmentName(1, lsn, segmentSize), lsn, bytes };
  });
}

beforeAll(async () => {
  built = buildWal({ segmentSize, startLsn, records });
  end = built.records.at(-1)!.endLsn;
  await archive();
});

const summaryKeys = (): Promise<string[]> => keysOf(repository, 'instances/production/summaries/');
const context = (): { repository: Repository } => ({ repository });

function read(range: { from: bigint; to: bigint }): Promise<SegmentSummary[]> {
  return collect(readSummaries(context(), view, range, { signal }));
}

describe('activity', () => {
  test('of the whole log - the large transactions, and the totals of all', async () => {
    const activity = await readActivity(context(), view, { from: startLsn, to: end }, { signal });
    expect(activity.transactions.map(({ xid, outcome, timeUs }) => [xid, outcome, timeUs])).toEqual([
      [20, 'commit', timeOf(18)],
      [10, 'commit', timeOf(30)],
    ]);
    expect(activity.transactions[1]).toMatchObject({
      firstLsn: built.records[1]!.lsn,
      rows: [{ relation: table, inserted: 1501, updated: 0, deleted: 1 }],
    });
    expect([activity.commits, activity.aborts, activity.seconds.length, activity.to]).toEqual([
      42,
      0,
      40,
      end,
    ]);
    expect(activity.rows).toEqual([{ relation: table, inserted: 3541, updated: 0, deleted: 1 }]);
    expect(activity.seconds[18]!.rows[0]!.inserted).toBe(2001);
    // What it did in earlier segments counts for the second in which it was committed.
    expect(activity.seconds[30]!.rows[0]).toMatchObject({ inserted: 1502, deleted: 1 });
  });

  test('of a range within segments - the records that start in it', async () => {
    const commits = built.records.filter(({ rmgr, info }) => rmgr === 1 && info === 0);
    const [from, to] = [commits[5]!, commits[22]!];
    const activity = await readActivity(
      context(),
      view,
      { from: from.lsn, to: to.lsn },
      { signal, minimumRows: 1 },
    );
    expect(activity.transactions.map(({ xid }) => xid)).toEqual(
      commits
        .slice(5, 22)
        .filter(({ xid }) => xid !== from.xid)
        .map(({ xid }) => xid),
    );
    expect(activity.commits).toBe(17);
    expect(activity.open.map(({ xid }) => xid)).toEqual([to.xid]);
  });

  test('with a choice of its own - sees each transaction once, and lists what it takes', async () => {
    const seen: number[] = [];
    const activity = await readActivity(
      context(),
      view,
      { from: startLsn, to: end },
      {
        signal,
        minimumRows: 1,
        keep: ({ xid }) => {
          seen.push(xid);
          return xid === 105;
        },
      },
    );
    expect(activity.transactions.map(({ xid }) => xid)).toEqual([105]);
    expect(seen.length).toBe(42);
  });
});

describe('stored summaries', () => {
  test('of whole segments that are archived - one each, read instead of the log', async () => {
    expect((await summaryKeys()).length).toBe(segments().length);
    const before = await read({ from: startLsn, to: end });
    for (const { name } of segments().slice(0, 3)) await repository.storage.delete(logPath(owner, name));
    const after = await read({ from: startLsn, to: startLsn + BigInt(3 * segmentSize) });
    expect(after.slice(0, 3).map(({ recordCount }) => recordCount)).toEqual(
      before.slice(0, 3).map(({ recordCount }) => recordCount),
    );
    await archive();
  });

  const damages: [
    string,
    (key: string, bytes: Uint8Array, of: { name: string; lsn: bigint }) => Promise<void>,
  ][] = [
    ['missing', async key => repository.storage.delete(key)],
    [
      'damaged',
      async (key, bytes) =>
        overwrite(
          repository,
          key,
          bytes.map((byte, at) => (at === 60 ? byte ^ 1 : byte)),
        ),
    ],
    ['cut off', async (key, bytes) => overwrite(repository, key, bytes.subarray(0, bytes.length - 20))],
    ['of another segment', async (key, bytes) => overwrite(repository, key, bytes)],
    [
      'of a newer version',
      async (key, _, { name }) => {
        await repository.storage.delete(key);
        await putLogSummary(repository, { ...owner, name, bytes: Uint8Array.of(99, 1, 2, 3) });
      },
    ],
  ];
  test.each(damages)('one that is %s - is made again from the log', async (what, damage) => {
    await archive();
    const expected = (await read({ from: startLsn, to: end })).map(each => [
      each.lsn,
      each.recordCount,
      each.pageCount,
    ]);
    const [first, second] = segments();
    const key = logSummaryPath(owner, second!.name);
    const source = what === 'of another segment' ? logSummaryPath(owner, first!.name) : key;
    await damage(key, (await repository.storage.get(source))!, second!);
    for (let round = 0; round < 2; round += 1) {
      const found = (await read({ from: startLsn, to: end })).map(each => [
        each.lsn,
        each.recordCount,
        each.pageCount,
      ]);
      expect(found).toEqual(expected);
    }
    // One of a newer program stays; every other is replaced.
    const now = await repository.storage.get(key);
    expect(now !== null && now.length > 500).toBe(what !== 'of a newer version');
  });

  test('a segment that cannot be summarised, or whose summary cannot be stored - is archived', async () => {
    const own = memoryRepository();
    const { name, bytes } = segments()[1]!;
    const damaged = bytes.map((byte, at) => (at === 2 ? 0xff : byte));
    expect(await storeSegment(own, { ...owner, name, bytes: damaged, level: null })).toBe('stored');
    const refusing: Repository = {
      ...own,
      storage: {
        ...own.storage,
        put: async (key, ...rest) => {
          if (key.includes('/summaries/')) throw new Error('full');
          return own.storage.put(key, ...rest);
        },
      },
    };
    const next = segments()[2]!;
    expect(await storeSegment(refusing, { ...owner, name: next.name, bytes: next.bytes, level: null })).toBe(
      'stored',
    );
    expect(await keysOf(own, 'instances/production/log/')).toHaveLength(2);
    // The same again, now that it can be stored, has its summary.
    expect(await storeSegment(own, { ...owner, name: next.name, bytes: next.bytes, level: null })).toBe(
      'same',
    );
    expect(await keysOf(own, 'instances/production/summaries/')).toContain(logSummaryPath(owner, next.name));
  });

  test('other bytes under a name that is taken - LOG_CONFLICT, and no summary of them', async () => {
    const own = memoryRepository();
    const { name, bytes } = segments()[0]!;
    await storeSegment(own, { ...owner, name, bytes, level: null });
    await own.storage.delete(logSummaryPath(owner, name));
    const others = new Uint8Array(segmentSize);
    others.set(buildWal({ segmentSize, startLsn, records: [wal.commit(9, 1n)] }).bytes);
    const storing = storeSegment(own, { ...owner, name, bytes: others, level: null });
    await expect(storing).rejects.toMatchObject({ code: 'LOG_CONFLICT' });
    expect(await keysOf(own, 'instances/production/summaries/')).toEqual([]);
  });
});

describe('changes', () => {
  const marks = async (target: bigint | null, from = startLsn): Promise<Map<number, number>> => {
    const map = await readChanges(context(), view, { from, to: end, target }, { signal });
    const fork = map.forks.get(forkKey(table, 0))!;
    return new Map([...fork.blocks].map((block, index) => [block, fork.overwrittenFirst[index]!]));
  };

  test('with a target - a page is left where its first record lies before it and overwrites it', async () => {
    await archive();
    const multi = built.records.find(({ rmgr, xid }) => rmgr === 9 && xid === 20)!;
    const after = await marks(multi.lsn + 1n);
    // Block 3: an image at the very start. Block 500: initialised. The others are changed in place.
    expect([after.get(3), after.get(500), after.get(700), after.get(2)]).toEqual([1, 1, 0, 0]);
    const before = await marks(multi.lsn);
    expect([before.get(3), before.get(500)]).toEqual([1, 0]);
    expect([...(await marks(null)).values()].every(mark => mark === 0)).toBe(true);
    // From behind the image on, the first record that names block 3 is an insert into it.
    expect((await marks(multi.lsn, built.records[1]!.lsn)).get(3)).toBe(0);
    expect([...after.keys()].sort((a, b) => a - b)).toEqual([...before.keys()].sort((a, b) => a - b));
  });

  test('a source of a copied database - none of its pages is left', async () => {
    const own = memoryRepository();
    const copy: RecordToBuild = {
      rmgr: 4,
      info: 0x01,
      main: new Uint8Array(Uint32Array.of(9, 1663, 5, 1663).buffer),
    };
    const log = buildWal({
      segmentSize,
      startLsn,
      records: [
        wal.pageImage(table, 3),
        wal.pageImage({ ...table, database: 6 }, 3),
        copy,
        wal.commit(9, 1n),
      ],
    });
    const bytes = new Uint8Array(segmentSize);
    bytes.set(log.bytes);
    await storeSegment(own, { ...owner, name: segmentName(1, startLsn, segmentSize), bytes, level: null });
    const owned = await openLogView(
      own,
      { owner, segmentSize, timeline: null, backupTimelines: [1] },
      signal,
    );
    const at = log.records[2]!.lsn;
    const to = log.records.at(-1)!.endLsn;
    const left = async (target: bigint): Promise<unknown[]> => {
      const map = await readChanges({ repository: own }, owned, { from: startLsn, to, target }, { signal });
      return [...map.forks.values()].map(({ relation, overwrittenFirst }) => [
        relation.database,
        overwrittenFirst[0],
      ]);
    };
    expect(await left(at)).toEqual([
      [5, 1],
      [6, 1],
    ]);
    expect(await left(at + 1n)).toEqual([
      [5, 0],
      [6, 1],
    ]);
  });

  test('segments that are not archived - are read from where they are, in place of what is older', async () => {
    const own = memoryRepository();
    const all = segments();
    for (const { name, bytes } of all.slice(0, 2))
      await storeSegment(own, { ...owner, name, bytes, level: null });
    // The third is archived in part.
    const part = all[2]!.bytes.slice();
    part.fill(0, 8192 * 3);
    await storeSegment(own, { ...owner, name: `${all[2]!.name}.partial`, bytes: part, level: null });
    const owned = await openLogView(
      own,
      { owner, segmentSize, timeline: null, backupTimelines: [1] },
      signal,
    );
    const range = { from: startLsn, to: end, target: null };
    async function* extra(): AsyncGenerator<{ lsn: bigint; bytes: Uint8Array }> {
      yield* all.slice(2);
    }
    const map = await readChanges({ repository: own }, owned, range, { signal, extra: extra() });
    const whole = await readChanges(context(), view, range, { signal });
    expect([...map.forks]).toEqual([...whole.forks]);
    await expect(readChanges({ repository: own }, owned, range, { signal })).rejects.toMatchObject({
      code: 'CORRUPT',
    });
    // Nothing is stored of what is not archived whole.
    expect((await keysOf(own, 'instances/production/summaries/')).length).toBe(2);
  });

  test('a range begun before its end is known, up to any segment - the same as in one go', async () => {
    await archive();
    const all = segments();
    const middle = built.records[Math.floor(built.records.length / 2)]!.lsn;
    for (const from of [startLsn, built.records[1]!.lsn, built.records[40]!.lsn]) {
      for (const target of [null, middle, end]) {
        const whole = await readChanges(context(), view, { from, to: end, target }, { signal });
        for (const { lsn: upTo } of all.slice(1)) {
          const begin = (): ReturnType<typeof beginChanges> =>
            beginChanges(context(), view, { from, upTo, target }, signal);
          async function* live(): AsyncGenerator<{ lsn: bigint; bytes: Uint8Array }> {
            yield* all.filter(({ lsn }) => lsn >= upTo);
          }
          for (const extra of [undefined, live()]) {
            const begun = await begin();
            // Looked at in between, as a rewind is planned with it.
            const soFar = changesSoFar(begun, from, segmentSize);
            expect([soFar.to, soFar.target]).toEqual([upTo, target]);
            const map = await readChanges(
              context(),
              view,
              { from, to: end, target },
              { signal, begun, ...(extra === undefined ? {} : { extra }) },
            );
            expect([...map.forks]).toEqual([...whole.forks]);
            expect([map.storage, map.events]).toEqual([whole.storage, whole.events]);
          }
        }
      }
    }
  });

  test('a record whose CRC is wrong - CORRUPT, in whatever segment', async () => {
    const own = memoryRepository();
    for (const { name, bytes, lsn } of segments()) {
      const damaged =
        lsn === startLsn + BigInt(segmentSize)
          ? bytes.map((byte, at) => (at === 600_000 ? byte ^ 1 : byte))
          : bytes;
      await storeSegment(own, { ...owner, name, bytes: damaged, level: null });
    }
    const owned = await openLogView(
      own,
      { owner, segmentSize, timeline: null, backupTimelines: [1] },
      signal,
    );
    const range = { from: startLsn, to: end, target: null };
    await expect(readChanges({ repository: own }, owned, range, { signal })).rejects.toMatchObject({
      code: 'CORRUPT',
    });
  });

  test('a segment that is missing - LOG_NOT_FOUND', async () => {
    const own = memoryRepository();
    for (const { name, bytes } of segments().filter((_, index) => index !== 1))
      await storeSegment(own, { ...owner, name, bytes, level: null });
    const owned = await openLogView(
      own,
      { owner, segmentSize, timeline: null, backupTimelines: [1] },
      signal,
    );
    const range = { from: startLsn, to: end };
    await expect(readActivity({ repository: own }, owned, range, { signal })).rejects.toMatchObject({
      code: 'LOG_NOT_FOUND',
    });
  });
});
