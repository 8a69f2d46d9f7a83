import { expect, test } from 'vitest';
import type { WalTransaction } from '../../src/engines/postgres/wal-transactions.ts';
import { ChangeCounter, type CounterEvents } from '../../src/watch/change-counter.ts';
import type { OpenTransaction } from '../../src/watch/open-transaction.ts';
import { type StreamPlace, StreamReader } from '../../src/watch/stream-reader.ts';
import { buildWal, type RecordToBuild } from '../engines/postgres/wal-builder.ts';
import {
  abort,
  assignment,
  commit,
  commitPrepared,
  hotUpdate,
  insert,
  multiInsert,
  prepare,
  remove,
  shutdownCheckpoint,
  update,
} from '../engines/postgres/wal-records.ts';

const MIB = 1024 * 1024;
const users = { tablespace: 1663, database: 5, file: 16_384 };
const orders = { tablespace: 1663, database: 5, file: 16_390 };
const place: StreamPlace = {
  ...{ systemIdentifier: '7711141577650727535', segmentSize: MIB, timeline: 1, serverLsn: 0n },
};

interface Seen {
  readonly rows: string[];
  readonly ended: string[];
  readonly lost: number[];
  readonly savepoints: number[];
}

/** The transaction's rows: deleted, updated and inserted by file. */
function totals(transaction: OpenTransaction): string {
  return [...transaction.totals.values()]
    .map(
      ({ relation, deleted, updated, inserted }) => `${relation.file}: -${deleted} ~${updated} +${inserted}`,
    )
    .join(', ');
}

function counterWith(next: number): { readonly counter: ChangeCounter; readonly seen: Seen } {
  const seen: Seen = { rows: [], ended: [], lost: [], savepoints: [] };
  const events: CounterEvents = {
    onRows: (transaction, count) =>
      void seen.rows.push(`${transaction.xid} ${count.relation.file}: -${count.deleted} ~${count.updated}`),
    onCatalog: () => undefined,
    onEnd: (transaction: OpenTransaction, end: WalTransaction) =>
      void seen.ended.push(`${end.kind} ${end.xid}: ${totals(transaction)}`),
    onSavepointLost: ({ xid }) => void seen.savepoints.push(xid),
    onLost: all => void seen.lost.push(...all.map(({ xid }) => xid)),
  };
  return { counter: new ChangeCounter(events, next), seen };
}

function read(records: readonly RecordToBuild[], next = 3): Seen {
  const { counter, seen } = counterWith(next);
  const { bytes } = buildWal({ segmentSize: MIB, startLsn: BigInt(MIB), records });
  const reader = new StreamReader({ onRecord: record => counter.add(record), onBegin: () => undefined });
  reader.push(place, BigInt(MIB), bytes);
  return seen;
}

const deletes = (xid: number, count: number, relation = users): RecordToBuild[] =>
  Array.from({ length: count }, () => remove(xid, relation, 1));

test('rows of a transaction - told once at the limit, and to the row at its end', () => {
  const seen = read([
    ...deletes(10, 5),
    insert(10, orders, 1),
    multiInsert(10, orders, 1, 7),
    update(10, orders, 1),
    hotUpdate(10, orders, 1),
    commit(10, 1n),
  ]);
  expect(seen.rows).toEqual(['10 16384: -3 ~0']);
  expect(seen.ended).toEqual(['commit 10: 16384: -5 ~0 +0, 16390: -0 ~2 +8']);
});

test('one that only inserted - of no interest', () => {
  expect(read([insert(10, users, 1), commit(10, 1n)]).rows).toEqual([]);
});

test('subtransactions - count for the whole as soon as it is known whose they are, and again not when rolled back', () => {
  const seen = read([
    ...deletes(10, 1),
    ...deletes(11, 1),
    ...deletes(12, 1),
    // Three rows of three transactions, until this says that they are one.
    assignment(10, [11, 12]),
    ...deletes(12, 4),
    abort(12, 1n),
    ...deletes(13, 2),
    commit(10, 1n, { subxids: [11, 13] }),
  ]);
  expect(seen.rows).toEqual(['10 16384: -3 ~0']);
  expect(seen.savepoints).toEqual([10]);
  expect(seen.ended).toEqual(['commit 10: 16384: -4 ~0 +0']);
});

test('a prepared transaction - keeps its rows until it ends', () => {
  const seen = read([...deletes(10, 2), prepare(10, 'x', 1n), commitPrepared(10, 1n)]);
  expect(seen.ended).toEqual(['prepare 10: 16384: -2 ~0 +0', 'commit prepared 10: 16384: -2 ~0 +0']);
});

test('the server is started anew - what ran is gone, what is prepared is not', () => {
  const seen = read([
    ...deletes(10, 2),
    ...deletes(11, 2),
    prepare(11, 'x', 1n),
    shutdownCheckpoint(),
    ...deletes(10, 1),
    commit(10, 1n),
  ]);
  expect(seen.lost).toEqual([10]);
  expect(seen.ended).toEqual(['prepare 11: 16384: -2 ~0 +0', 'commit 10: 16384: -1 ~0 +0']);
});

test('the stream - in pieces of any size, sent once more, and behind a hole', () => {
  const records = [...Array.from({ length: 3000 }, () => remove(10, users, 1)), commit(10, 1n)];
  const start = BigInt(MIB);
  const { bytes } = buildWal({ segmentSize: MIB, startLsn: start, records });
  const { counter, seen } = counterWith(1e9);
  const begins: string[] = [];
  const reader = new StreamReader({
    onRecord: record => counter.add(record),
    onBegin: (_lsn, why) => void begins.push(why),
  });
  for (let at = 0; at < bytes.length; at += 777)
    reader.push(place, start + BigInt(at), bytes.subarray(at, at + 777));
  // A server sends from the start of a segment after every reconnection.
  reader.push(place, start, bytes);
  expect(seen.ended).toEqual(['commit 10: 16384: -3000 ~0 +0']);
  expect(begins).toEqual(['first']);

  const behind = counterWith(1e9);
  const other = new StreamReader({
    onRecord: record => behind.counter.add(record),
    onBegin: (_lsn, why) => void begins.push(why),
  });
  other.push(place, start, bytes.subarray(0, 20_000));
  other.push(place, start + 50_000n, bytes.subarray(50_000));
  expect(begins).toEqual(['first', 'first', 'gap']);
  expect(behind.seen.ended).toHaveLength(1);
  const counted = Number(/-(\d+)/.exec(behind.seen.ended[0] ?? '')?.[1]);
  expect(counted).toBeGreaterThan(1500);
  expect(counted).toBeLessThan(3000);

  // What is no log is passed over, and reading goes on where it is one again.
  const third = counterWith(1e9);
  const damaged = bytes.slice();
  damaged.fill(0xab, 30_000, 30_100);
  const last = new StreamReader({
    onRecord: record => third.counter.add(record),
    onBegin: (_lsn, why) => void begins.push(why),
  });
  for (let at = 0; at < damaged.length; at += 8192) {
    try {
      last.push(place, start + BigInt(at), damaged.subarray(at, at + 8192));
    } catch {
      // Said by whoever pushes.
    }
  }
  expect(begins.at(-1)).toBe('unreadable');
  expect(third.seen.ended).toHaveLength(1);
});
