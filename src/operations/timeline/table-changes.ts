import type { QualifiedName } from '../../engines/postgres/catalog-snapshot.ts';
import type { RelationRows, TransactionSummary } from '../../engines/postgres/segment-summary.ts';
import type { RelationFile } from '../../engines/postgres/wal-transactions.ts';
import {
  describeRelation,
  fileKey,
  type RelationName,
  type RelationNames,
} from '../catalog/relation-names.ts';

/** A table, by the names it had. */
export interface TableLabel {
  /** Null when it is not known. */
  readonly database: string | null;
  /** Null when no catalog knows the file. */
  readonly schema: string | null;
  /** `relation 16512` when no catalog knows the file. */
  readonly table: string;
  /** Of a partition: the partitioned table at the top. */
  readonly partitionOf: QualifiedName | null;
  /** The planner's estimate when the names were recorded. */
  readonly estimatedRows: number | null;
}

/** Rows of one table that were changed. */
export interface TableRows extends TableLabel {
  readonly inserted: number;
  readonly updated: number;
  readonly deleted: number;
}

/**
 * What was done to a table as a whole. `rewrite`: VACUUM FULL, CLUSTER or ALTER TABLE gave it new files with the same rows,
 * or it was dropped and created anew. Of `drop database`, the table's name is the database's.
 */
export interface TableAct extends TableLabel {
  readonly act: 'drop' | 'drop database' | 'truncate' | 'rewrite' | 'move';
}

/** What a transaction did, by tables of users: catalogs, indexes, sequences and TOAST relations are left out. */
export interface TransactionChanges {
  /** Those with the most rows first. */
  readonly tables: readonly TableRows[];
  readonly acts: readonly TableAct[];
}

/** @source catalog/pg_class.dat: the catalog of relations keeps this number as long as it is not rewritten itself */
const PG_CLASS = 1259;

/** Rows by table, those with the most changes first. Files of one table (its old and its new one) count together. */
export async function tableRows(
  rows: readonly RelationRows[],
  lsn: bigint,
  names: RelationNames,
): Promise<TableRows[]> {
  const tables = new Map<string, TableRows>();
  for (const each of rows) {
    const name = await names.nameOf(each.relation, lsn);
    if (!isTable(name)) continue;
    const key = describeRelation(name);
    const known = tables.get(key) ?? { ...labelOf(name), inserted: 0, updated: 0, deleted: 0 };
    tables.set(key, {
      ...known,
      inserted: known.inserted + each.inserted,
      updated: known.updated + each.updated,
      deleted: known.deleted + each.deleted,
    });
  }
  return [...tables.values()].sort((a, b) => changed(b) - changed(a));
}

/** What the server and all of the log say of the files of a transaction, beyond its summary. */
export interface SeenFiles {
  /** Tables whose old files are gone and that are still there, by `describeRelation`; null where nobody could say. */
  readonly kept: ReadonlySet<string> | null;
  /** New files into which whole pages were written, by `fileKey`. */
  readonly copied: ReadonlySet<string>;
}

/** What a transaction did. `seen`: where it was watched. */
export async function changesOf(
  transaction: TransactionSummary,
  names: RelationNames,
  seen: SeenFiles | null = null,
): Promise<TransactionChanges> {
  const lsn = transaction.endLsn ?? transaction.firstLsn;
  const acts = transaction.dropped.length === 0 ? [] : await actsOf(transaction, { lsn, names, seen });
  return { tables: await tableRows(transaction.rows, lsn, names), acts };
}

/** `shop: public.users`. */
export function describeTable({ database, schema, table }: TableLabel): string {
  const name = schema === null ? table : `${schema}.${table}`;
  return database === null ? name : `${database}: ${name}`;
}

/** All rows that were inserted, updated or deleted. */
export function changed({ inserted, updated, deleted }: Omit<RelationRows, 'relation'>): number {
  return inserted + updated + deleted;
}

async function actsOf(
  transaction: TransactionSummary,
  known: { readonly lsn: bigint; readonly names: RelationNames; readonly seen: SeenFiles | null },
): Promise<TableAct[]> {
  const { lsn, names, seen } = known;
  const createdKeys = new Set(transaction.created.map(fileKey));
  const droppedKeys = new Set(transaction.dropped.map(fileKey));
  // What was made and dropped within the transaction was never there for others.
  const dropped = transaction.dropped.filter(each => !createdKeys.has(fileKey(each)));
  const created = transaction.created.filter(each => !droppedKeys.has(fileKey(each)));
  const before = await namesOf(dropped, lsn, names);
  const after = await namesOf(created, transaction.recordEndLsn ?? lsn, names);
  const successors = new Map(
    after.filter(isTable).map(name => [describeRelation(name), { file: name.relation, name }]),
  );
  const catalog = await catalogRows(transaction.rows, lsn, names);
  const written = new Set(seen?.copied);
  for (const { relation, inserted } of transaction.rows) if (inserted > 0) written.add(fileKey(relation));
  const common = {
    droppedFiles: dropped.length,
    created,
    catalog,
    hasRewrites: hasRewrites(catalog, before, after),
  };
  const acts = new Map<string, TableAct>();
  for (const name of before) {
    if (!isTable(name)) continue;
    const key = describeRelation(name);
    const successor = successors.get(key)?.file;
    const isEmptied =
      seen !== null &&
      successor !== undefined &&
      !written.has(fileKey(successor)) &&
      (name.estimatedRows ?? 0) > 0;
    const isKept = seen?.kept?.has(key) ?? null;
    const act = actOf({ ...common, dropped: name.relation, successor, isEmptied, isKept });
    acts.set(key, { act, ...labelOf(name) });
  }
  const found = [...acts.values()];
  // Where no relation was created or dropped, each new file of a table takes the place of one that no catalog may know.
  const replaced = [...successors.values()].filter(
    ({ name }) => name.kind === 'table' && !acts.has(describeRelation(name)),
  );
  if (catalog.inserted > 0 || catalog.deleted > 0 || replaced.length === 0) return withoutUnnamedParts(found);
  return [
    ...found.filter(each => each.schema !== null),
    ...replaced.map(({ file, name }): TableAct => {
      const isMoved = dropped.every(each => each.tablespace !== file.tablespace);
      return { act: isMoved ? 'move' : 'truncate', ...labelOf(name) };
    }),
  ];
}

/**
 * Tells what happened to a table whose files were removed, by what was done to the catalog of relations. TRUNCATE changes
 * the table's row in it and nothing else; a rewrite makes another table for a while, and drops that with the old files; DROP
 * removes a row for every file.
 */
function actOf(seen: {
  readonly dropped: RelationFile;
  readonly droppedFiles: number;
  readonly successor: RelationFile | undefined;
  readonly created: readonly RelationFile[];
  readonly catalog: CatalogRows;
  /** Any table may have been written anew. */
  readonly hasRewrites: boolean;
  /** It had rows, and nothing was written into its new file. */
  readonly isEmptied: boolean;
  /** The server still has this very table; null where nobody could say. */
  readonly isKept: boolean | null;
}): TableAct['act'] {
  const { dropped, successor, created, catalog, isKept } = seen;
  const isReplaced = isKept ?? (successor !== undefined || catalog.deleted === 0);
  if (!isReplaced || created.length === 0) return 'drop';
  const moved =
    successor === undefined
      ? created.every(each => each.tablespace !== dropped.tablespace)
      : successor.tablespace !== dropped.tablespace;
  if (catalog.deleted === 0) return moved ? 'move' : 'truncate';
  if (catalog.inserted === 0 || (successor !== undefined && !seen.hasRewrites))
    return successor !== undefined && moved ? 'move' : 'truncate';
  if (isKept === true) return seen.isEmptied ? 'truncate' : 'rewrite';
  return catalog.deleted >= seen.droppedFiles ? 'drop' : 'rewrite';
}

/**
 * Whether a transaction may have written a table anew: rows of the catalog of relations were both made and removed that are
 * not those of relations with files which came or went. A file that nobody knows may be in the place of any other.
 */
function hasRewrites(
  { inserted, deleted }: CatalogRows,
  before: readonly RelationName[],
  after: readonly RelationName[],
): boolean {
  const left = new Set(after.map(describeRelation));
  const had = new Set(before.map(describeRelation));
  const ownRows = (files: readonly RelationName[], others: ReadonlySet<string>): number =>
    files.filter(each => each.name !== null && !others.has(describeRelation(each))).length;
  const unknown = (files: readonly RelationName[]): number =>
    files.filter(({ name }) => name === null).length;
  return (
    inserted > Math.max(0, ownRows(after, had) - unknown(before)) &&
    deleted > Math.max(0, ownRows(before, left) - unknown(after))
  );
}

interface CatalogRows {
  readonly inserted: number;
  readonly deleted: number;
}

async function namesOf(
  files: readonly RelationFile[],
  lsn: bigint,
  names: RelationNames,
): Promise<RelationName[]> {
  const found: RelationName[] = [];
  for (const each of files) found.push(await names.nameOf(each, lsn));
  return found;
}

async function catalogRows(
  rows: readonly RelationRows[],
  lsn: bigint,
  names: RelationNames,
): Promise<CatalogRows> {
  let inserted = 0;
  let deleted = 0;
  for (const each of rows) {
    if (each.relation.file !== PG_CLASS) {
      const { kind, name } = await names.nameOf(each.relation, lsn);
      if (kind !== 'system' || name?.name !== 'pg_class') continue;
    }
    inserted += each.inserted;
    deleted += each.deleted;
  }
  return { inserted, deleted };
}

/** Of a table that no catalog knows, index and TOAST files are dropped with it: the first file made is the table's. */
function withoutUnnamedParts(acts: readonly TableAct[]): TableAct[] {
  const unnamed = acts.filter(each => each.schema === null).sort((a, b) => fileOf(a) - fileOf(b));
  return [...acts.filter(each => each.schema !== null), ...unnamed.slice(0, 1)];
}

function fileOf({ table }: TableLabel): number {
  return Number(/\d+$/.exec(table)?.[0] ?? 0);
}

/** What no catalog knows may be a table. */
function isTable({ kind }: RelationName): boolean {
  return kind === 'table' || kind === 'unknown';
}

function labelOf({ database, name, partitionOf, estimatedRows, relation }: RelationName): TableLabel {
  return {
    database: database ?? (relation.database === 0 ? null : `database ${relation.database}`),
    schema: name?.schema ?? null,
    table: name?.name ?? `relation ${relation.file}`,
    partitionOf,
    estimatedRows,
  };
}
