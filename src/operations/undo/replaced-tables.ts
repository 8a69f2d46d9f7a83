import { queryRow, queryRows, type Session } from '../../engines/postgres/connection.ts';
import type { DestroyedRows } from '../../engines/postgres/destroyed-rows.ts';
import type { TransactionSummary } from '../../engines/postgres/segment-summary.ts';
import { quotedName, type TableShape } from '../../engines/postgres/table-shape.ts';
import { fileKey, type RelationNames } from '../catalog/relation-names.ts';
import type { TableAct } from '../timeline/table-changes.ts';

/** What a transaction did to rows of a file that it made itself. */
export interface NewFileRows {
  readonly inserted: number;
  /** Updated or deleted again. */
  readonly changed: number;
}

/** By the quoted names of tables; of a file that nobody knows, `null`. */
export type NewFiles = ReadonlyMap<string | null, NewFileRows>;

/** The rows in the new files that a transaction left, by what these are called behind it. */
export async function newFilesOf(
  { rows, created, dropped, recordEndLsn, firstLsn }: TransactionSummary,
  names: RelationNames,
): Promise<NewFiles> {
  const left = new Set(created.map(fileKey));
  for (const each of dropped) left.delete(fileKey(each));
  const found = new Map<string | null, NewFileRows>();
  for (const { relation, inserted, updated, deleted } of rows) {
    if (!left.has(fileKey(relation))) continue;
    const { kind, name } = await names.nameOf(relation, recordEndLsn ?? firstLsn);
    if (kind !== 'table' && kind !== 'unknown') continue;
    const key = name === null ? null : quotedName(name);
    const known = found.get(key) ?? { inserted: 0, changed: 0 };
    found.set(key, {
      inserted: known.inserted + inserted,
      changed: known.changed + updated + deleted,
    });
  }
  return found;
}

/** Of tables that are there now, those that the transaction made: the type of a table's rows is made with it, and stays. */
export async function madeBy(
  live: Session,
  oids: readonly number[],
  xids: readonly number[],
  signal: AbortSignal,
): Promise<ReadonlySet<number>> {
  const rows = await queryRows<{ oid: number }>(live, 'see which tables were made anew', {
    text: `select typrelid::int8::float8 as oid from pg_type
           where typrelid = any($1::int8[]::oid[]) and xmin = any($2::xid[])`,
    values: [oids, xids],
    signal,
  });
  return new Set(rows.map(({ oid }) => oid));
}

/** A table whose old file is gone. */
export interface ReplacedTable {
  readonly before: TableShape;
  /** The same table now; undefined where it is there no more. */
  readonly now: TableShape | undefined;
  /** Its name is that of another one now, which the transaction made. */
  readonly isMadeAnew: boolean;
  /** What the log says of rows of the old file. */
  readonly own: DestroyedRows | null;
  readonly acts: readonly TableAct[];
  readonly newFiles: NewFiles;
}

/**
 * What was done to a table whose file was removed. `kept`: its rows are in another one. Null: nobody knows.
 *
 * What the log alone says is of the transaction as a whole: where that did different things to several tables, it takes one
 * for the other. So it is held against what the source and the live server say of this table.
 */
export async function actOn(
  { before, now, isMadeAnew, own, acts, newFiles }: ReplacedTable,
  at: {
    readonly source: Session;
    readonly live: Session;
    readonly xids: readonly number[];
    readonly signal: AbortSignal;
  },
): Promise<'truncate' | 'drop' | 'kept' | null> {
  const told = acts.find(each => each.schema === before.schema && each.table === before.name)?.act;
  if (now === undefined && (isMadeAnew || told === 'drop')) return 'drop';
  if (told === undefined || told === 'truncate') return told ?? null;
  if (told === 'move') return 'kept';
  const { rows } = await queryRow<{ rows: number }>(at.source, `count the rows of ${labelOf(before)}`, {
    text: `select count(*)::float8 as rows from only ${quotedName(before)}`,
    signal: at.signal,
  });
  const left = rows - (own === null ? 0 : own.deleted.size + own.moved.size);
  if (left <= (newFiles.get(quotedName(before))?.inserted ?? 0)) return 'kept';
  if (now === undefined) return null;
  // CLUSTER carries whole pages over, which are no inserts: its rows are older than the transaction.
  const look = `look at the rows of ${labelOf(before)}`;
  const { older, logged } = await queryRow<{ older: boolean; logged: boolean }>(at.live, look, {
    text: `select exists (select from only ${quotedName(now)} where age(xmin) > age(($1::xid[])[1])) as older,
                  (select relpersistence = 'p' from pg_class where oid = $2::int8::oid) as logged`,
    values: [at.xids, now.oid],
    signal: at.signal,
  });
  // What is carried into an unlogged table is not in the log.
  if (!older && !logged) return null;
  return older ? 'kept' : 'truncate';
}

/** Why it cannot be known which rows of a table in a new file the transaction destroyed; null where it destroyed none there. */
export function whyNotNewFile(before: TableShape, newFiles: NewFiles): string | null {
  const isChanged = [quotedName(before), null].some(name => (newFiles.get(name)?.changed ?? 0) > 0);
  return isChanged
    ? 'the transaction wrote all of it anew and then changed rows of that, and which ones these were is not in the log'
    : null;
}

function labelOf({ schema, name }: TableShape): string {
  return `${schema}.${name}`;
}
