import { expect, test } from 'vitest';
import { parseDescribedChange } from '../../../src/operations/timeline/described-change.ts';
import { findDescribedChange } from '../../../src/operations/timeline/find-described-change.ts';
import type { RecordToBuild } from '../../engines/postgres/wal-builder.ts';
import { commit, remove } from '../../engines/postgres/wal-records.ts';
import { BEGIN, logOf, START } from '../log/built-log.ts';
import { fileOf } from './summaries.ts';

const { signal } = new AbortController();
const users = fileOf(20_001);
const queue = fileOf(20_002);

/** A transaction that deletes so many rows. No catalog says what its table is called. */
function deletion(xid: number, relation: typeof users, rows: number): RecordToBuild[] {
  const removed = Array.from({ length: rows }, (_, index) => remove(xid, relation, index));
  return [...removed, commit(xid, BEGIN + BigInt(xid))];
}

/** The numbers of the transactions that descriptions mean. */
async function found(records: readonly RecordToBuild[], ...texts: readonly string[]): Promise<number[]> {
  const { repository, view, to, built } = await logOf(records);
  const xids: number[] = [];
  for (const text of texts) {
    const search = { view, from: START, to, change: parseDescribedChange(text)! };
    const { lsn } = await findDescribedChange({ instance: 'production', repository }, search, signal);
    xids.push(built.find(record => record.lsn === lsn)!.xid);
  }
  return xids;
}

test('the first and the last, where some are like others and one is not - by their place in the log', async () => {
  const small = (from: number): RecordToBuild[] =>
    [0, 1, 2, 3, 4].flatMap(each => deletion(from + each, users, 1));
  const records = [...small(700), ...deletion(710, users, 50), ...deletion(711, queue, 1)];
  const [first, last] = ['before the first delete', 'before the last delete'];
  expect(await found(records, `${first} on "relation 20001"`, `${last} on "relation 20001"`)).toEqual([
    700, 710,
  ]);
  expect(await found([...deletion(690, users, 50), ...small(700)], first, last)).toEqual([690, 704]);
});

test('behind a hundred thousand other small ones - still found', async () => {
  const records: RecordToBuild[] = [...deletion(700, users, 1)];
  for (let xid = 1000; xid < 101_100; xid += 1) records.push(...deletion(xid, queue, 1));
  records.push(...deletion(200_000, users, 1));
  const texts = ['before the last delete on "relation 20001"', 'before the last delete'];
  expect(await found(records, ...texts)).toEqual([200_000, 200_000]);
}, 60_000);
