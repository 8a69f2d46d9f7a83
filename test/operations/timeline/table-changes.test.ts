import { expect, test } from 'vitest';
import type { RelationRows } from '../../../src/engines/postgres/segment-summary.ts';
import { learnNames } from '../../../src/operations/timeline/learn-names.ts';
import { changesOf } from '../../../src/operations/timeline/table-changes.ts';
import { fileOf, namesOf, transaction } from './summaries.ts';

const names = () =>
  namesOf({
    20001: { kind: 'table', table: 'users' },
    20002: { kind: 'toast', table: 'users' },
    20003: { kind: 'index', table: 'users' },
    20011: { kind: 'table', table: 'users' },
    20021: { kind: 'table', table: 'orders' },
  });

const rows = (file: number, inserted: number, updated: number, deleted: number): RelationRows => ({
  relation: fileOf(file),
  inserted,
  updated,
  deleted,
});
const PG_CLASS = 1259;
const users = [20001, 20002, 20003].map(file => fileOf(file));

test('rows of catalogs, indexes and TOAST - are no rows of tables; old and new file of a table count together', async () => {
  const { tables } = await changesOf(
    transaction({
      xid: 1,
      rows: [rows(20001, 1, 2, 3), rows(20002, 9, 9, 9), rows(20011, 10, 0, 0), rows(PG_CLASS, 5, 5, 5)],
    }),
    names(),
  );
  expect(tables).toMatchObject([
    { database: 'shop', schema: 'public', table: 'users', inserted: 11, updated: 2, deleted: 3 },
  ]);
});

test.each([
  ['TRUNCATE', 'truncate', [20011, 20012, 20013], rows(PG_CLASS, 0, 3, 0)],
  [
    'TRUNCATE, with a successor that no catalog has',
    'truncate',
    [20012, 20013, 20014],
    rows(PG_CLASS, 0, 3, 0),
  ],
  ['DROP TABLE', 'drop', [], rows(PG_CLASS, 0, 0, 3)],
  ['VACUUM FULL', 'rewrite', [20011, 20012, 20013], rows(PG_CLASS, 2, 3, 2)],
  ['DROP and CREATE anew', 'drop', [20011, 20012, 20013], rows(PG_CLASS, 3, 0, 3)],
] as const)('%s - %s', async (_, act, created, catalog) => {
  const summary = transaction({
    xid: 1,
    rows: [catalog],
    dropped: users,
    created: created.map(file => fileOf(file)),
  });
  expect((await changesOf(summary, names())).acts).toMatchObject([{ act, table: 'users' }]);
});

test('TRUNCATE beside DROP and CREATE - of each table what was done to it; a table sorted anew is none of them', async () => {
  const known = namesOf({
    20001: { kind: 'table', table: 'users' },
    20003: { kind: 'index', table: 'users' },
    20011: { kind: 'table', table: 'users' },
    20013: { kind: 'index', table: 'users' },
    20021: { kind: 'table', table: 'orders' },
    20031: { kind: 'table', table: 'fresh' },
  });
  const dropped = [20001, 20003, 20021].map(file => fileOf(file));
  const truncating = transaction({
    ...{ xid: 1, rows: [rows(PG_CLASS, 1, 1, 1)], dropped },
    created: [20011, 20013, 20031].map(file => fileOf(file)),
  });
  expect((await changesOf(truncating, known)).acts).toMatchObject([
    { act: 'truncate', table: 'users' },
    { act: 'drop', table: 'orders' },
  ]);
  const sorting = transaction({
    ...{ xid: 2, rows: [rows(PG_CLASS, 1, 3, 2)], dropped },
    created: [20011, 20013].map(file => fileOf(file)),
  });
  expect((await changesOf(sorting, known)).acts[0]).toMatchObject({ act: 'rewrite', table: 'users' });
});

test('a transaction that was watched - the server says which tables are left, and the log which got no rows', async () => {
  const known = namesOf({
    20001: { kind: 'table', table: 'users', rows: 10 },
    20011: { kind: 'table', table: 'users' },
  });
  const [dropped, created] = [[fileOf(20001)], [fileOf(20011)]];
  const summary = transaction({ xid: 1, rows: [rows(PG_CLASS, 1, 1, 1)], dropped, created });
  const actsWhen = async (kept: string[], copied: string[]): Promise<string[]> => {
    const seen = { kept: new Set(kept), copied: new Set(copied) };
    return (await changesOf(summary, known, seen)).acts.map(({ act }) => act);
  };
  expect(await actsWhen(['shop: public.users'], [])).toEqual(['truncate']);
  expect(await actsWhen(['shop: public.users'], ['1663/16400/20011'])).toEqual(['rewrite']);
  expect(await actsWhen([], ['1663/16400/20011'])).toEqual(['drop']);
});

test('SET TABLESPACE - moved, not truncated', async () => {
  const created = [fileOf(20011, 17000), fileOf(20012, 17000)];
  const summary = transaction({ xid: 1, rows: [rows(PG_CLASS, 0, 1, 0)], dropped: users, created });
  expect((await changesOf(summary, names())).acts).toMatchObject([{ act: 'move', table: 'users' }]);
});

test('a table made and dropped within a transaction, one that no catalog has - not told of; told of once', async () => {
  const files = [30001, 30002, 30003].map(file => fileOf(file));
  const own = transaction({ xid: 1, rows: [rows(PG_CLASS, 3, 0, 3)], dropped: files, created: files });
  expect((await changesOf(own, names())).acts).toEqual([]);
  const unknown = transaction({ xid: 2, rows: [rows(PG_CLASS, 0, 0, 3)], dropped: files });
  expect((await changesOf(unknown, names())).acts).toMatchObject([
    { act: 'drop', database: 'shop', schema: null, table: 'relation 30001' },
  ]);
});

test('a table truncated and then dropped before anyone recorded names - has its name through its files', async () => {
  const known = names();
  const second = [30001, 30002, 30003].map(file => fileOf(file));
  const third = [30011, 30012, 30013].map(file => fileOf(file));
  const truncates = [
    transaction({ xid: 1, rows: [rows(PG_CLASS, 0, 3, 0)], dropped: users, created: second }),
    transaction({ xid: 2, rows: [rows(PG_CLASS, 0, 3, 0)], dropped: second, created: third }),
  ];
  const drop = transaction({ xid: 3, rows: [rows(30011, 7, 0, 0), rows(30012, 9, 0, 0)], dropped: third });
  await learnNames([...truncates, drop], known);
  const changes = await changesOf({ ...drop, rows: [...drop.rows, rows(PG_CLASS, 0, 0, 3)] }, known);
  expect(changes.acts).toMatchObject([{ act: 'drop', table: 'users' }]);
  expect(changes.tables).toMatchObject([{ table: 'users', inserted: 7 }]);
});

test('tables truncated whose old files no catalog has - have the names of their new ones', async () => {
  const dropped = [30001, 30002, 30003, 30004].map(file => fileOf(file));
  const created = [20011, 20012, 20021, 20022].map(file => fileOf(file));
  const summary = transaction({ xid: 1, rows: [rows(PG_CLASS, 0, 4, 0)], dropped, created });
  expect((await changesOf(summary, names())).acts).toMatchObject([
    { act: 'truncate', table: 'users' },
    { act: 'truncate', table: 'orders' },
  ]);
});

test('two tables truncated at once - what no catalog has stays without a name', async () => {
  const known = names();
  const created = [30001, 30002].map(file => fileOf(file));
  await learnNames([transaction({ xid: 1, dropped: [fileOf(20001), fileOf(20021)], created })], known);
  expect((await known.nameOf(created[0]!, 5000n)).kind).toBe('unknown');
});
