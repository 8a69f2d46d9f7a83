import { expect, test } from 'vitest';
import type { CatalogRelation, RelationKind } from '../../../src/engines/postgres/catalog-snapshot.ts';
import { selectFiles } from '../../../src/operations/side/select-files.ts';

const MIB = 1024 * 1024;
const backup = { blockSize: 8192, relationSegmentBlocks: 131_072 };
const SHOP = 5;

function relation(
  file: number,
  kind: RelationKind,
  name: string,
  facts: { readonly schema?: string; readonly table?: string; readonly tablespace?: number } = {},
): CatalogRelation {
  const { schema = 'public', table, tablespace = 1663 } = facts;
  return {
    relation: { tablespace, database: SHOP, file },
    ...{ kind, schema, name, partitionOf: null, estimatedRows: null },
    table: table === undefined ? null : { schema: 'public', name: table },
  };
}

const relations = [
  relation(20_001, 'table', 'users'),
  relation(20_002, 'toast', 'pg_toast_1', { schema: 'pg_toast', table: 'users' }),
  relation(20_003, 'index', 'pg_toast_1_index', { schema: 'pg_toast', table: 'users' }),
  relation(20_004, 'index', 'users_pkey', { table: 'users' }),
  relation(20_005, 'sequence', 'users_id_seq'),
  relation(20_011, 'table', 'big'),
  relation(20_012, 'toast', 'pg_toast_2', { schema: 'pg_toast', table: 'big' }),
  relation(20_013, 'index', 'big_pkey', { table: 'big' }),
  relation(20_021, 'table', 'pg_class', { schema: 'pg_catalog' }),
  relation(20_031, 'toast', 'pg_toast_3', { schema: 'pg_toast' }),
  relation(20_041, 'table', 'one'),
  relation(20_041, 'table', 'two', { tablespace: 30_000 }),
];

const users = { tablespace: 1663, database: SHOP, file: 20_001 };
const select = (
  groups: ReadonlySet<number> | null,
  connected: ReadonlySet<number> | null = null,
): ReturnType<typeof selectFiles> =>
  selectFiles({ relations }, { wanted: [{ relation: users, groups }], connected }, backup);

/** Of a file of 2 MiB. */
function halves(
  selection: ReturnType<typeof selectFiles>,
  path: string,
): readonly [boolean, boolean] | 'all' {
  const needs = selection.needs(path);
  return needs === null ? 'all' : [needs(0, MIB), needs(MIB, 2 * MIB)];
}

test('a table of which pages are wanted - they are needed, its TOAST relation, and the first page of its indexes', () => {
  // 32 pages are a group: this one lies in the second MiB.
  const selection = select(new Set([5]));
  expect(halves(selection, 'base/5/20001')).toEqual([false, true]);
  expect(halves(selection, 'base/5/20001_vm')).toBe('all');
  expect(halves(selection, 'base/5/20002')).toBe('all');
  expect(halves(selection, 'base/5/20003')).toBe('all');
  expect(halves(selection, 'base/5/20004')).toEqual([true, false]);
  expect(halves(selection, 'base/5/20005')).toBe('all');
  expect(selection.wanted(SHOP)).toEqual([20_001]);
  expect(halves(select(null), 'base/5/20001')).toBe('all');
});

test('pages behind the first GB - are looked for in the file that holds them', () => {
  const selection = select(new Set([131_072 / 32]));
  expect(halves(selection, 'base/5/20001')).toEqual([false, false]);
  expect(halves(selection, 'base/5/20001.1')).toEqual([true, false]);
  expect(halves(selection, 'base/5/20001.2')).toEqual([false, false]);
});

test('other tables - are left out; what nobody knows, catalogs, init forks and ambiguous numbers are not', () => {
  const selection = select(null);
  for (const path of ['base/5/20011', 'base/5/20011.3', 'base/5/20011_fsm', 'base/5/20012', 'base/5/20013'])
    expect([path, halves(selection, path)]).toEqual([path, [false, false]]);
  // ALTER DATABASE moves files to another tablespace under their numbers.
  expect(halves(selection, 'pg_tblspc/30000/PG_18_202506291/5/20011')).toEqual([false, false]);
  for (const path of [
    ...['base/5/20011_init', 'base/5/20021', 'base/5/20031', 'base/5/20041', 'base/5/29999', 'base/5/1259'],
    ...['base/6/20011', 'base/6/1259', 'global/1260', 'pg_xact/0000', 'base/5/PG_VERSION', 'base/5/t3_20011'],
  ])
    expect([path, halves(selection, path)]).toEqual([path, 'all']);
  expect(selection.leftOut(SHOP)).toEqual([20_011, 20_012, 20_013]);
});

test('catalogs of databases that nobody connects to - are left out, but not what all databases share', () => {
  const selection = select(null, new Set([1, SHOP]));
  expect(halves(selection, 'base/6/1259')).toEqual([false, false]);
  expect(halves(selection, 'base/6/1259_vm')).toEqual([false, false]);
  for (const path of ['base/1/1259', 'base/5/1259', 'global/1260', 'base/6/PG_VERSION', 'base/6/20001'])
    expect([path, halves(selection, path)]).toEqual([path, 'all']);
});

test('a page that the server has missed - matters where it was restored', () => {
  const selection = select(new Set([5]), new Set([1, SHOP]));
  const needs = (database: number, file: number, block: number): boolean =>
    selection.needsPage({ database, file, block });
  expect(needs(SHOP, 20_001, 160)).toBe(true);
  expect(needs(SHOP, 20_001, 159)).toBe(false);
  expect(needs(SHOP, 20_002, 9)).toBe(true);
  expect(needs(SHOP, 20_004, 0)).toBe(true);
  expect(needs(SHOP, 20_004, 1)).toBe(false);
  expect(needs(SHOP, 20_011, 0)).toBe(false);
  expect(needs(SHOP, 1259, 0)).toBe(true);
  expect(needs(6, 1259, 0)).toBe(false);
  expect(needs(SHOP, 29_999, 0)).toBe(true);
});
