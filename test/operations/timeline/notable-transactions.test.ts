import { expect, test } from 'vitest';
import type { TransactionSummary } from '../../../src/engines/postgres/segment-summary.ts';
import {
  bySeverity,
  type NotableSelection,
  nameTransactions,
  selectNotable,
} from '../../../src/operations/timeline/notable-transactions.ts';
import { fileOf, namesOf, transaction } from './summaries.ts';

const names = namesOf({
  20001: { kind: 'table', table: 'users', rows: 40_000 },
  20002: { kind: 'table', table: 'few', rows: 10 },
  20003: { kind: 'table', table: 'logs', rows: 1_000_000 },
});

async function select(...transactions: readonly TransactionSummary[]): Promise<NotableSelection> {
  return selectNotable(await nameTransactions(transactions, names), { minimumRows: 1000 });
}

const change = (
  xid: number,
  file: number,
  rows: Partial<Record<'inserted' | 'updated' | 'deleted', number>>,
) => transaction({ xid, rows: [{ relation: fileOf(file), inserted: 0, updated: 0, deleted: 0, ...rows }] });

const xids = (selection: readonly { readonly transaction: TransactionSummary }[]): number[] =>
  selection.map(each => each.transaction.xid);

test('changes of a thousand rows, most of a small table - stand out; smaller ones do not', async () => {
  const { notable } = await select(
    change(1, 20001, { deleted: 999 }),
    change(2, 20001, { deleted: 1000 }),
    change(3, 20002, { deleted: 8 }),
    change(4, 20002, { updated: 10 }),
    change(5, 20002, { deleted: 1 }),
  );
  expect(xids(notable)).toEqual([2, 3]);
  expect(notable.map(each => each.share)).toEqual([1000 / 40_000, 0.8]);
});

test('what is rolled back or only prepared - does not count', async () => {
  const { notable } = await select(
    { ...change(1, 20001, { deleted: 5000 }), outcome: 'abort' },
    { ...change(2, 20001, { deleted: 5000 }), outcome: 'prepare' },
  );
  expect(notable).toEqual([]);
});

test('a nightly purge in batches - is usual; one that takes most of the table is not', async () => {
  const batches = [1, 2, 3, 4, 5].map(xid => change(xid, 20003, { deleted: 10_000 + xid }));
  const { notable, usual } = await select(
    ...batches,
    change(6, 20003, { deleted: 900_000 }),
    change(7, 20001, { deleted: 12_000 }),
  );
  expect([xids(notable), xids(usual)]).toEqual([
    [6, 7],
    [1, 2, 3, 4, 5],
  ]);
});

test('tables dropped again and again - each is told of', async () => {
  const drops = [1, 2, 3, 4, 5].map(xid => transaction({ xid, dropped: [fileOf(20000 + xid)] }));
  const { notable, usual } = await select(...drops);
  expect([notable.length, usual.length]).toEqual([5, 0]);
});

test('the worst of a transaction - a drop before a delete before an update before an insert, then rows', async () => {
  const { notable } = await select(
    change(1, 20001, { inserted: 50_000, updated: 2000 }),
    change(2, 20001, { inserted: 3000 }),
    transaction({
      xid: 3,
      dropped: [fileOf(20003)],
      rows: [{ relation: fileOf(20001), inserted: 0, updated: 0, deleted: 9000 }],
    }),
    change(4, 20001, { deleted: 1500 }),
  );
  expect(notable.map(each => each.kind)).toEqual(['update', 'insert', 'drop', 'delete']);
  expect(xids([...notable].sort(bySeverity))).toEqual([3, 4, 1, 2]);
});
