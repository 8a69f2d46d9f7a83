import { AppError } from '../../base/errors.ts';
import { queryRows, type Session } from '../../engines/postgres/connection.ts';
import type { DestroyedRows } from '../../engines/postgres/destroyed-rows.ts';
import {
  quotedName,
  readTableShapes,
  type TableColumn,
  type TableKey,
  type TableShape,
} from '../../engines/postgres/table-shape.ts';
import type { CarriedColumn, RowFate, UndoTable } from '../../engines/postgres/undo-statements.ts';
import type { RelationFile } from '../../engines/postgres/wal-transactions.ts';
import { fileKey } from '../catalog/relation-names.ts';
import { fitsTable } from '../timeline/find-described-change.ts';
import type { TableAct, TableLabel } from '../timeline/table-changes.ts';
import { actOn, madeBy, type NewFiles, whyNotNewFile } from './replaced-tables.ts';
import type { RowSource } from './row-source.ts';

/** What is known of a transaction's destruction, by files of one database. */
export interface DestroyedFiles {
  readonly rows: readonly DestroyedRows[];
  /** Files that were removed, of whatever kind of relation, and were there before. */
  readonly removed: readonly RelationFile[];
  /** What was done to tables as a whole, by their names. */
  readonly acts: readonly TableAct[];
  readonly newFiles: NewFiles;
}

/** A table that is still there. `rows` null: all that the source has. */
export interface MatchedTable extends UndoTable {
  /** `drop`: it is there again, made anew by somebody or by a run that was cut off. */
  readonly act: 'rows' | 'truncate' | 'drop';
  readonly rows: DestroyedRows | null;
}

export interface MatchedTables {
  readonly tables: readonly MatchedTable[];
  /** As the source has them: they are made anew. */
  readonly dropped: readonly TableShape[];
  /** Tables that were not asked for, and of which rows or files went as well. */
  readonly others: readonly TableShape[];
}

export interface MatchRequest {
  /** Names as people write them; null: all. */
  readonly tables: readonly string[] | null;
  /** Their files must be the ones that the log names: rows are found by their places in them. */
  readonly sameFiles: boolean;
  /** The transaction's and those of its subtransactions, its own first. */
  readonly xids: readonly number[];
}

/**
 * Finds out which tables the files were, and what these are now.
 *
 * @throws UNDO_REFUSED when a table cannot be undone: all are named, each with its reason
 */
export async function matchTables(
  source: RowSource,
  live: Session,
  destroyed: DestroyedFiles,
  request: MatchRequest & { readonly signal: AbortSignal },
): Promise<MatchedTables> {
  const { signal } = request;
  const files = [...destroyed.rows.map(each => each.relation), ...destroyed.removed];
  const shapes = await readTableShapes(source.session, { files: files.map(each => each.file) }, signal);
  const wanted = selectTables(shapes, source.database, request.tables);
  const now = await liveTables(live, wanted, signal);
  const rows = new Map(destroyed.rows.map(each => [fileKey(each.relation), each]));
  const removed = new Set(destroyed.removed.map(fileKey));
  const reasons: string[] = await unknownFiles(source, files, shapes, signal);
  const tables: MatchedTable[] = [];
  const dropped: TableShape[] = [];
  const named = [...now.byName.values()].map(({ oid }) => oid);
  const anew = await madeBy(live, named, request.xids, signal);
  for (const shape of wanted) {
    const own = rows.get(fileKey(shape.relation)) ?? null;
    const replaced = {
      before: shape,
      now: now.byOid.get(shape.oid),
      isMadeAnew: anew.has(now.byName.get(quotedName(shape))?.oid ?? 0),
      own,
      ...destroyed,
    };
    const found = removed.has(fileKey(shape.relation))
      ? await actOn(replaced, { source: source.session, live, xids: request.xids, signal })
      : 'rows';
    const whyNotNew = found === 'kept' ? whyNotNewFile(shape, destroyed.newFiles) : null;
    const act = found === 'kept' ? 'rows' : found;
    if (act === 'rows' && own === null && whyNotNew === null) continue;
    const current =
      now.byOid.get(shape.oid) ?? (act === 'drop' ? now.byName.get(quotedName(shape)) : undefined);
    if (act === 'drop' && current === undefined) {
      dropped.push(shape);
      continue;
    }
    const pairs = columnPairs(shape, current);
    const why =
      act === null
        ? 'its file was removed, and what was done to it is not known'
        : current === undefined
          ? 'it was dropped since'
          : (whyNotNew ?? whyNotFile(shape, current, { act, ...request }) ?? whyNotColumns(pairs, current));
    if (current === undefined || act === null || why !== null) {
      reasons.push(`${shape.schema}.${shape.name}: ${why}`);
      continue;
    }
    const carried = carriedColumns(pairs);
    // A held snapshot shows the rows of then, under the names of now.
    const columns = request.sameFiles ? carried.map(({ live }) => ({ source: live, live })) : carried;
    tables.push({
      source: request.sameFiles ? current : shape,
      live: current,
      columns,
      key: usableKey(current, columns),
      staging: `pg_temp."aishell_undo_${shape.oid}"`,
      act,
      rows: act === 'rows' ? own : null,
    });
  }
  if (reasons.length > 0) throw refusal(reasons);
  if (tables.length + dropped.length === 0) throw nothingDestroyed(request.xids[0] ?? 0);
  const others = shapes.filter(
    shape =>
      shape.kind === 'table' &&
      !wanted.includes(shape) &&
      (rows.has(fileKey(shape.relation)) || removed.has(fileKey(shape.relation))),
  );
  return { tables, dropped, others };
}

/** Of all that was dropped, whether it is there again or not, as the source has it. */
export function droppedOids({ tables, dropped }: MatchedTables): number[] {
  const again = tables.filter(({ act }) => act === 'drop').map(({ source }) => source.oid);
  return [...dropped.map(({ oid }) => oid), ...again];
}

/** The positions of rows of a table, by what became of them. */
export function positionsOf(rows: DestroyedRows): ReadonlyMap<RowFate, DestroyedRows['deleted']> {
  return new Map([
    ['d', rows.deleted],
    ['u', rows.updated],
    ['k', rows.rekeyed],
    ['m', rows.moved],
  ]);
}

function selectTables(
  shapes: readonly TableShape[],
  database: string,
  names: readonly string[] | null,
): readonly TableShape[] {
  // What a view or an index over many tables holds comes from its query.
  const own = shapes.filter(each => each.kind === 'table');
  if (names === null) return own;
  const label = ({ schema, name, partitionOf }: TableShape): TableLabel => ({
    database,
    schema,
    table: name,
    partitionOf,
    estimatedRows: null,
  });
  for (const name of names) {
    if (own.some(shape => fitsTable(name)(label(shape)))) continue;
    const known = own.map(({ schema, name: table }) => `${schema}.${table}`).join(', ');
    throw new AppError('USAGE', `the transaction destroyed nothing in a table '${name}'`, {
      hint: `It did in: ${known === '' ? 'none' : known}.`,
    });
  }
  return own.filter(shape => names.some(name => fitsTable(name)(label(shape))));
}

/** A file that no relation of the source has is no table that was there before; unless the source cannot know. */
async function unknownFiles(
  source: RowSource,
  files: readonly RelationFile[],
  shapes: readonly TableShape[],
  signal: AbortSignal,
): Promise<string[]> {
  const known = new Set(shapes.map(each => each.relation.file));
  const left = files.map(each => each.file).filter(file => !known.has(file));
  if (left.length === 0) return [];
  const found = await queryRows<{ file: number }>(source.session, 'find what files belong to', {
    // Of catalogs that say where all others lie, relfilenode is 0.
    text: `select pg_relation_filenode(oid)::int8::float8 as file from pg_class
           where pg_relation_filenode(oid) = any($1::int8[]::oid[])`,
    values: [left],
    signal,
  });
  const others = new Set(found.map(each => each.file));
  return left
    .filter(file => !others.has(file))
    .map(
      file =>
        `file ${file}: it was a table's when the rows were destroyed, and just before the end of the transaction it was not`,
    );
}

interface LiveTables {
  readonly byOid: ReadonlyMap<number, TableShape>;
  readonly byName: ReadonlyMap<string, TableShape>;
}

async function liveTables(
  live: Session,
  wanted: readonly TableShape[],
  signal: AbortSignal,
): Promise<LiveTables> {
  const same = await readTableShapes(live, { oids: wanted.map(each => each.oid) }, signal);
  const named = await readTableShapes(live, { names: wanted.map(quotedName) }, signal);
  return {
    byOid: new Map(same.map(each => [each.oid, each])),
    byName: new Map(named.map(each => [quotedName(each), each])),
  };
}

interface ColumnPair {
  readonly source: TableColumn;
  /** Undefined: it is not there any more. */
  readonly live: TableColumn | undefined;
}

/** A column keeps its number when it is renamed; where the table was made anew, the name must do. */
function columnPairs(before: TableShape, now: TableShape | undefined): ColumnPair[] {
  const isSame = before.oid === now?.oid;
  return before.columns.map(source => ({
    source,
    live: now?.columns.find(each => (isSame ? each.number === source.number : each.name === source.name)),
  }));
}

function whyNotFile(
  before: TableShape,
  now: TableShape,
  how: { readonly act: 'rows' | 'truncate' | 'drop'; readonly sameFiles: boolean },
): string | null {
  if (how.sameFiles && how.act === 'rows' && before.relation.file !== now.relation.file)
    return 'it was rewritten since, which the held snapshot does not survive (use --from backup)';
  return now.kind === 'table' ? null : 'it is another kind of object now';
}

function whyNotColumns(pairs: readonly ColumnPair[], now: TableShape): string | null {
  for (const { source, live } of pairs) {
    if (source.generated) continue;
    if (live === undefined) return `its column '${source.name}' was dropped since`;
    if (live.type !== source.type)
      return `its column '${source.name}' was of type ${source.type}, and is of type ${live.type} now`;
    if (live.generated) return `its column '${source.name}' is a generated one now`;
  }
  const known = new Set(pairs.map(({ live }) => live?.number));
  const added = now.columns.find(
    each => each.notNull && !each.hasDefault && !each.generated && !known.has(each.number),
  );
  if (added !== undefined)
    return `its column '${added.name}' was added since, must not be null and has no default`;
  return pairs.every(({ source }) => source.generated) ? 'it has no columns with values' : null;
}

function carriedColumns(pairs: readonly ColumnPair[]): CarriedColumn[] {
  return pairs.flatMap(({ source, live }) =>
    source.generated || live === undefined ? [] : [{ source, live }],
  );
}

/** A key made of columns that the rows had. */
function usableKey({ key }: TableShape, columns: readonly CarriedColumn[]): TableKey | null {
  const carried = new Set(columns.map(({ live }) => live.number));
  return key?.columns.every(({ number }) => carried.has(number)) === true ? key : null;
}

function refusal(reasons: readonly string[]): AppError {
  return new AppError('UNDO_REFUSED', `unable to undo the transaction: ${reasons.join('; ')}`, {
    hint: 'Nothing was changed. Give --tables to undo the others, or see `aishell backup restore --target` for a copy of the database from before.',
    details: { reasons },
  });
}

export function nothingDestroyed(xid: number): AppError {
  return new AppError('UNDO_REFUSED', `unable to undo transaction ${xid}: it destroyed no rows of a table`, {
    hint: 'Only what was deleted, updated, truncated or dropped is put back; inserted rows stay.',
  });
}
