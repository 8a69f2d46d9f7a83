import { createHash } from 'node:crypto';
import { AppError } from '../../base/errors.ts';
import type {
  CatalogDatabase,
  CatalogPlace,
  CatalogRelation,
  CatalogSnapshot,
  QualifiedName,
  RelationKind,
} from './catalog-snapshot.ts';

const letters: Readonly<Record<RelationKind, string>> = {
  table: 'r',
  'materialized view': 'm',
  index: 'i',
  toast: 't',
  sequence: 'S',
};
const kindOf = new Map(Object.entries(letters).map(([kind, letter]) => [letter, kind as RelationKind]));

type RelationLine = readonly [
  database: number,
  tablespace: number,
  file: number,
  kind: string,
  schema: string,
  name: string,
  table: readonly [schema: string, name: string] | null,
  partitionOf: readonly [schema: string, name: string] | null,
  estimatedRows: number | null,
];

/** A snapshot's names as lines of JSON: the databases first, then a line for each relation (docs/format.md, "Catalogs"). */
export function encodeCatalog(snapshot: CatalogSnapshot): Uint8Array {
  const first = JSON.stringify(snapshot.databases.map(({ oid, name, skipped }) => [oid, name, skipped]));
  const lines = snapshot.relations.map(each => JSON.stringify(lineOf(each)));
  return Buffer.from([first, ...lines, ''].join('\n'), 'utf8');
}

/** Equal for two snapshots with the same names and files: estimates and positions do not count. */
export function catalogDigest({ databases, relations }: CatalogSnapshot): string {
  const hash = createHash('sha256');
  for (const { oid, name, skipped } of databases) hash.update(JSON.stringify([oid, name, skipped !== null]));
  for (const each of relations) hash.update(JSON.stringify(lineOf(each).slice(0, 8)));
  return hash.digest('hex');
}

/** The inverse of {@link encodeCatalog}. @throws CORRUPT */
export function decodeCatalog(bytes: Uint8Array, place: CatalogPlace): CatalogSnapshot {
  try {
    const [first = '[]', ...lines] = Buffer.from(bytes).toString('utf8').split('\n');
    const databases = (JSON.parse(first) as [number, string, string | null][]).map(
      ([oid, name, skipped]): CatalogDatabase => ({ oid, name, skipped }),
    );
    const relations = lines
      .filter(line => line !== '')
      .map(line => parseLine(JSON.parse(line) as RelationLine));
    return { ...place, databases, relations };
  } catch (error) {
    throw new AppError('CORRUPT', 'unable to read a catalog: it is not what this version writes', {
      cause: error,
    });
  }
}

function lineOf(each: CatalogRelation): RelationLine {
  const { database, tablespace, file } = each.relation;
  const pair = (name: QualifiedName | null): readonly [string, string] | null =>
    name === null ? null : [name.schema, name.name];
  return [
    database,
    tablespace,
    file,
    letters[each.kind],
    each.schema,
    each.name,
    pair(each.table),
    pair(each.partitionOf),
    each.estimatedRows,
  ];
}

function parseLine(line: RelationLine): CatalogRelation {
  const [database, tablespace, file, letter, schema, name, table, partitionOf, estimatedRows] = line;
  const kind = kindOf.get(letter);
  if (kind === undefined || typeof schema !== 'string' || typeof name !== 'string' || !(file > 0))
    throw new TypeError('a line of a relation');
  const named = (pair: readonly [string, string] | null): QualifiedName | null =>
    pair === null ? null : { schema: pair[0], name: pair[1] };
  return {
    relation: { tablespace, database, file },
    kind,
    schema,
    name,
    table: named(table),
    partitionOf: named(partitionOf),
    estimatedRows,
  };
}
