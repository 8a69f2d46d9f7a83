import { expect, test } from 'vitest';
import {
  catalogDigest,
  decodeCatalog,
  encodeCatalog,
} from '../../../src/engines/postgres/catalog-encoding.ts';
import type { CatalogRelation, CatalogSnapshot } from '../../../src/engines/postgres/catalog-snapshot.ts';
import {
  describeRelation,
  nameRelations,
  type RelationNames,
} from '../../../src/operations/catalog/relation-names.ts';
import { verifyCatalogs } from '../../../src/operations/catalog/verify-catalogs.ts';
import { putCatalog } from '../../../src/repository/catalog-archive.ts';
import { catalogPath } from '../../../src/repository/layout.ts';
import type { Repository } from '../../../src/repository/repository.ts';
import { memoryRepository, overwrite } from '../../repository/memory-repository.ts';

const owner = { instance: 'production', systemIdentifier: '7566129433051829306' };
const DATABASE = 16_400;
const fileOf = (file: number) => ({ tablespace: 1663, database: DATABASE, file });

function relation(file: number, name: string, more: Partial<CatalogRelation> = {}): CatalogRelation {
  return {
    relation: fileOf(file),
    kind: 'table',
    schema: 'public',
    name,
    table: null,
    partitionOf: null,
    estimatedRows: 5,
    ...more,
  };
}

function catalog(lsn: bigint, relations: readonly CatalogRelation[], timeline = 1): CatalogSnapshot {
  const { systemIdentifier } = owner;
  const databases = [
    { oid: 1, name: 'template1', skipped: null },
    { oid: 4, name: 'template0', skipped: 'it allows no connections' },
    { oid: DATABASE, name: 'shop', skipped: null },
  ];
  return { systemIdentifier, timeline, lsn, databases, relations };
}

async function store(repository: Repository, snapshot: CatalogSnapshot): Promise<void> {
  const { timeline, lsn } = snapshot;
  const bytes = encodeCatalog(snapshot);
  await putCatalog(repository, { ...owner, timeline, lsn, bytes, digest: catalogDigest(snapshot) });
}

async function namesOf(
  snapshots: readonly CatalogSnapshot[],
  options: {
    readonly chain?: readonly { readonly timeline: number; readonly begin: bigint }[];
    readonly live?: CatalogSnapshot;
    readonly repository?: Repository;
  } = {},
): Promise<{ readonly names: RelationNames; at(file: number, lsn: bigint): Promise<string> }> {
  const repository = options.repository ?? memoryRepository();
  for (const each of snapshots) await store(repository, each);
  const { signal } = new AbortController();
  const log = { owner, chain: options.chain ?? [{ timeline: 1, begin: 0n }] };
  const names = await nameRelations({ repository }, log, { signal, live: options.live ?? null });
  return { names, at: async (file, lsn) => describeRelation(await names.nameOf(fileOf(file), lsn)) };
}

test('a catalog - read back as it was; equal names have an equal digest, whatever the estimates', () => {
  const odd = relation(20001, 'Odd "name"\n\u0001', {
    kind: 'index',
    table: { schema: 'S\\', name: 'ü' },
    partitionOf: { schema: 'p', name: 'top' },
    estimatedRows: null,
  });
  const made = catalog(5000n, [odd, relation(20002, 'users')]);
  expect(decodeCatalog(encodeCatalog(made), made)).toEqual(made);
  const other = catalog(9000n, [odd, relation(20002, 'users', { estimatedRows: 1e9 })]);
  expect(catalogDigest(other)).toBe(catalogDigest(made));
  expect(catalogDigest(catalog(5000n, [odd, relation(20002, 'user')]))).not.toBe(catalogDigest(made));
});

test('bytes that are no catalog - refused as damage', () => {
  const made = catalog(5000n, [relation(20001, 'users')]);
  const text = Buffer.from(encodeCatalog(made)).toString();
  for (const bad of ['', '{}', text.slice(0, -5), text.replace('"r"', '"?"'), text.replace('20001', '-1')])
    expect(() => decodeCatalog(Buffer.from(bad), made), bad).toThrow(
      expect.objectContaining({ code: 'CORRUPT' }),
    );
});

test('a table renamed, then dropped - has at each position the name it had last', async () => {
  const { at } = await namesOf([
    catalog(1000n, [relation(20001, 'orders')]),
    catalog(2000n, [relation(20001, 'purchases')]),
    catalog(3000n, []),
    catalog(9000n, []),
  ]);
  expect(await at(20001, 1500n)).toBe('shop: public.orders');
  expect(await at(20001, 2000n)).toBe('shop: public.purchases');
  expect(await at(20001, 2900n)).toBe('shop: public.purchases');
  expect(await at(20001, 9999n)).toBe('shop: public.purchases');
});

test('a file made after a catalog - has the name of the next one; one that none has, none', async () => {
  const { at, names } = await namesOf([catalog(1000n, []), catalog(5000n, [relation(20001, 'orders')])]);
  expect(await at(20001, 2000n)).toBe('shop: public.orders');
  expect(await at(20001, 500n)).toBe('shop: public.orders');
  expect(await at(20009, 2000n)).toBe('shop: relation 20009');
  expect(await names.databaseOf(99_999, 2000n)).toBeNull();
  expect(describeRelation(await names.nameOf({ tablespace: 1663, database: 99_999, file: 20009 }, 1n))).toBe(
    'database 99999: relation 20009',
  );
});

test('only a catalog far away has a file - it is found there', async () => {
  const later = Array.from({ length: 12 }, (_, index) => catalog(2000n + BigInt(index), []));
  const { at } = await namesOf([catalog(1000n, [relation(20001, 'orders')]), ...later]);
  expect(await at(20001, 9000n)).toBe('shop: public.orders');
});

test('files of initdb, catalogs in files of their own, what databases share - are the system', async () => {
  const { names } = await namesOf([
    catalog(1000n, [
      relation(20001, 'pg_class', { schema: 'pg_catalog' }),
      relation(20002, 'pg_toast_1255', {
        schema: 'pg_toast',
        kind: 'toast',
        table: { schema: 'pg_catalog', name: 'pg_proc' },
      }),
      relation(20003, 'pg_toast_16500', {
        schema: 'pg_toast',
        kind: 'toast',
        table: { schema: 'public', name: 'users' },
      }),
    ]),
  ]);
  const kindOf = async (file: number) => (await names.nameOf(fileOf(file), 2000n)).kind;
  expect([await kindOf(1259), await kindOf(20001), await kindOf(20002), await kindOf(20003)]).toEqual([
    'system',
    'system',
    'system',
    'toast',
  ]);
  expect((await names.nameOf({ tablespace: 1664, database: 0, file: 30000 }, 2000n)).kind).toBe('system');
});

test('a timeline that was left - its later names do not count', async () => {
  const chain = [
    { timeline: 1, begin: 0n },
    { timeline: 2, begin: 2500n },
  ];
  const snapshots = [
    catalog(2000n, [relation(20001, 'orders')]),
    catalog(3000n, [relation(20001, 'given_up'), relation(20002, 'given_up_too')]),
    catalog(3000n, [relation(20002, 'users')], 2),
  ];
  const { at } = await namesOf(snapshots, { chain });
  expect([await at(20001, 4000n), await at(20002, 4000n)]).toEqual([
    'shop: public.orders',
    'shop: public.users',
  ]);
});

test('what the live server says - counts beside what is stored; another system does not', async () => {
  const live = catalog(5000n, [relation(20001, 'now')]);
  expect(await (await namesOf([], { live })).at(20001, 9000n)).toBe('shop: public.now');
  const foreign = await namesOf([], { live: { ...live, systemIdentifier: '1' } });
  expect(await foreign.at(20001, 9000n)).toBe('database 16400: relation 20001');
  expect(foreign.names.catalogs).toBe(0);
});

test('a damaged catalog - another one serves, and that is told', async () => {
  const repository = memoryRepository();
  await store(repository, catalog(2000n, [relation(20001, 'orders')]));
  const path = catalogPath(owner, { timeline: 1, lsn: 2000n });
  const bytes = await repository.storage.get(path);
  bytes![60]! ^= 1;
  await overwrite(repository, path, bytes!);
  const { at, names } = await namesOf([catalog(1000n, [relation(20001, 'older')])], { repository });
  expect(await at(20001, 3000n)).toBe('shop: public.older');
  expect(names.problems).toEqual([expect.stringContaining(path)]);
  const { signal } = new AbortController();
  expect(await verifyCatalogs(repository, owner, signal)).toMatchObject([{ object: path }]);
});
