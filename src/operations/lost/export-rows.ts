import { join } from 'node:path';
import { type OnEvent, runStep } from '../../base/events.ts';
import { counted } from '../../base/sizes.ts';
import type { RelationFile } from '../../engines/postgres/wal-transactions.ts';
import { fileKey } from '../catalog/relation-names.ts';
import type { RunOptions } from '../instance-context.ts';
import { createCsvOutput } from './csv-output.ts';
import type { LostOutput, ReadRow } from './lost-output.ts';
import { type LostRow, operationOf, placeInOrder } from './lost-rows.ts';
import type { LostRows } from './read-lost-rows.ts';
import { type ExportFormat, RowReader, type WantedRow } from './read-rows.ts';
import { RowSpool, SpoolReader } from './row-spool.ts';
import type { SideInstance, SideMoment } from './side-instance.ts';
import { createSqlOutput } from './sql-output.ts';
import type { TableShape } from './table-shape.ts';

export interface ExportedRows {
  readonly files: readonly { readonly path: string; readonly rows: number }[];
  /** Names of tables as the servers said them, by file. */
  readonly shapes: ReadonlyMap<string, TableShape | 'other'>;
  /** How many rows of each file could not be read. */
  readonly unread: ReadonlyMap<string, number>;
  /** Updates that changed no value. */
  readonly unchanged: number;
}

export interface ExportRequest {
  readonly lost: LostRows;
  /** The recovery target. */
  readonly from: bigint;
  readonly format: ExportFormat;
  /** An existing directory for the files. */
  readonly output: string;
  /** For what is read meanwhile. */
  readonly spoolDirectory: string;
}

/** A moment at which rows are read, and which. */
interface Visit {
  readonly moment: SideMoment;
  readonly wanted: WantedRow[];
}

type Shapes = ReadonlyMap<string, TableShape | 'other'>;

interface Visited {
  readonly spool: RowSpool;
  readonly shapes: Shapes;
}

/**
 * Reads lost rows where they are still there: as they were at the target, just before each transaction of the disaster, and
 * at the end. Then writes them in the order of their transactions.
 */
export async function exportRows(
  side: SideInstance,
  request: ExportRequest,
  options: RunOptions,
): Promise<ExportedRows> {
  const rows = request.lost.rows
    .filter(row => operationOf(row) !== 'gone')
    .sort((a, b) => placeInOrder(a) - placeInOrder(b));
  const spools: RowSpool[] = [];
  try {
    const visited: Visited[] = [];
    for (const [number, visit] of visitsFor(rows, request).entries()) {
      const spool = await RowSpool.create(join(request.spoolDirectory, `rows-${number}`));
      spools.push(spool);
      visited.push({
        spool,
        shapes: await makeVisit(side, { ...visit, spool, format: request.format }, options),
      });
    }
    return await writeRows(rows, { ...request, visited }, options.onEvent);
  } finally {
    for (const spool of spools) await spool.close();
  }
}

/**
 * The target first, for what rows were. Then the last lost transaction before each of the disaster, and the last of all: a
 * row's last version is read at the first of these that is not before its own transaction. No other has replaced it by then,
 * and the disaster has not taken it yet.
 */
function visitsFor(rows: readonly LostRow[], { lost, from, format }: ExportRequest): Visit[] {
  const before: Visit = { moment: { lsn: from, isInclusive: false }, wanted: [] };
  const later = lastBeforeEach(lost).map(
    (lsn): Visit => ({ moment: { lsn, isInclusive: true }, wanted: [] }),
  );
  for (const [index, row] of rows.entries()) {
    const { relation, origin, place } = row;
    if (origin !== null) before.wanted.push({ index, relation, place: origin });
    // Nobody is told to repeat what rests on the disaster; it is shown.
    if (place === null || (row.isOnTop && format === 'sql')) continue;
    const { lsn } = lost.transactions[row.last]!;
    later.find(({ moment }) => moment.lsn >= lsn)?.wanted.push({ index, relation, place });
  }
  // The first one stands for the target, also where nothing is read there.
  return [before, ...later];
}

/** Where the commits of the last lost transactions before each of the disaster are, and that of the last one. */
function lastBeforeEach({ transactions, disasters }: LostRows): bigint[] {
  const found = new Set<bigint>();
  for (const { lsn } of disasters) {
    const last = transactions.findLast(each => each.lsn < lsn);
    if (last !== undefined) found.add(last.lsn);
  }
  const last = transactions.at(-1);
  return last === undefined ? [] : [...found.add(last.lsn)];
}

async function makeVisit(
  side: SideInstance,
  visit: Visit & { readonly spool: RowSpool; readonly format: ExportFormat },
  options: RunOptions,
): Promise<Shapes> {
  const shapes = new Map<string, TableShape | 'other'>();
  if (visit.wanted.length === 0) return shapes;
  const step = { id: 'read-rows', title: 'Lost rows read', detail: () => `${visit.wanted.length} wanted` };
  await runStep(options.onEvent, step, async () => {
    const server = await side.goTo(visit.moment, options);
    const reader = new RowReader(server, visit.format, options.signal);
    try {
      await reader.read(visit.wanted, visit.spool);
      for (const relation of relationsOf(visit.wanted)) {
        const shape = await reader.shapeOf(relation);
        if (shape !== null) shapes.set(fileKey(relation), shape);
      }
    } finally {
      await reader.close();
    }
  });
  return shapes;
}

function relationsOf(wanted: readonly WantedRow[]): Iterable<RelationFile> {
  return new Map(wanted.map(({ relation }) => [fileKey(relation), relation])).values();
}

async function writeRows(
  rows: readonly LostRow[],
  request: ExportRequest & { readonly visited: readonly Visited[] },
  onEvent: OnEvent,
): Promise<ExportedRows> {
  const { format, output, visited } = request;
  const { transactions } = request.lost;
  const out: LostOutput = format === 'sql' ? createSqlOutput(output) : createCsvOutput(output);
  const readRow = rowReader(visited);
  const unread = new Map<string, number>();
  const shapes = new Map(visited.flatMap(each => [...each.shapes]));
  let unchanged = 0;
  const detail = (files: ExportedRows['files']): string => counted(files.length, 'file');
  const files = await runStep(onEvent, { id: 'write', title: 'Lost rows written', detail }, async () => {
    for (const [index, row] of rows.entries()) {
      const operation = operationOf(row);
      const key = fileKey(row.relation);
      const isShown = operation !== 'on top' || (format === 'csv' && row.place !== null);
      if (!isShown || shapes.get(key) === 'other') continue;
      const found = await readRow(row, index);
      if (found === null) {
        unread.set(key, (unread.get(key) ?? 0) + 1);
        continue;
      }
      const transaction = transactions[placeInOrder(row)]!;
      const leftBy = row.last === placeInOrder(row) ? null : transactions[row.last]!;
      if (!(await out.write({ operation, transaction, leftBy, ...found }))) unchanged += 1;
    }
    return await out.finish();
  });
  return { files, shapes, unread, unchanged };
}

/** Puts together what was read of a row at the moments; null: not all of it was there. Asked in the order of indices. */
function rowReader(
  visited: readonly Visited[],
): (row: LostRow, index: number) => Promise<Pick<ReadRow, 'shape' | 'before' | 'after'> | null> {
  const [target, ...later] = visited.map(({ spool, shapes }) => ({ reader: new SpoolReader(spool), shapes }));
  const takeFrom = async (moment: typeof target, index: number, key: string): Promise<ReadRow['before']> => {
    const row = (await moment?.reader.take(index)) ?? null;
    const shape = moment?.shapes.get(key);
    return row === null || shape === undefined || shape === 'other' ? null : { ...row, shape };
  };
  return async ({ relation, origin, place }, index) => {
    const key = fileKey(relation);
    const before = await takeFrom(target, index, key);
    let after: ReadRow['before'] = null;
    for (const moment of later) after ??= await takeFrom(moment, index, key);
    const shape = (after ?? before)?.shape;
    const isWhole = (origin === null || before !== null) && (place === null || after !== null);
    return isWhole && shape !== undefined ? { shape, before, after } : null;
  };
}
