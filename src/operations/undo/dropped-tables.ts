import { AppError } from '../../base/errors.ts';
import { queryRow, queryRows, type Session } from '../../engines/postgres/connection.ts';
import { quoteIdentifier } from '../../engines/postgres/connection-errors.ts';
import { copyRowsTo, startCopyIn } from '../../engines/postgres/copy-pipe.ts';
import { readTableDefinition, type TableDefinition } from '../../engines/postgres/table-definition.ts';
import { quotedName, type TableShape } from '../../engines/postgres/table-shape.ts';
import { rowHash } from '../../engines/postgres/undo-statements.ts';
import type { RowSource } from './row-source.ts';
import type { UndoneTable, UndoTableFacts } from './undo-report.ts';

/** A table that is made anew. */
export interface DroppedTable {
  readonly shape: TableShape;
  readonly definition: TableDefinition;
  readonly rows: number;
  /** Of all its rows, at the source. */
  readonly checksum: string;
}

/** @throws UNDO_REFUSED where one cannot be made anew */
export async function planDropped(
  source: RowSource,
  shapes: readonly TableShape[],
  signal: AbortSignal,
): Promise<DroppedTable[]> {
  const planned: DroppedTable[] = [];
  const reasons: string[] = [];
  for (const shape of shapes) {
    const name = `${shape.schema}.${shape.name}`;
    const definition = await readTableDefinition(source.session, shape.oid, signal);
    if (definition.refusals.length > 0) reasons.push(`${name}: ${definition.refusals.join(', ')}`);
    else planned.push({ shape, definition, ...(await totalsOf(source.session, shape, signal)) });
  }
  if (reasons.length === 0) return planned;
  throw new AppError('UNDO_REFUSED', `unable to make dropped tables anew: ${reasons.join('; ')}`, {
    hint: 'Nothing was changed. Give --tables to undo the others, or see `aishell backup restore --target` for a copy of the database from before.',
    details: { reasons },
  });
}

export function droppedFacts({ shape, rows }: DroppedTable): UndoTableFacts {
  return {
    schema: shape.schema,
    table: shape.name,
    act: 'drop',
    destroyed: rows,
    updated: 0,
    present: 0,
    toInsert: rows,
    toSetBack: 0,
    left: [],
    key: shape.key?.index ?? null,
  };
}

/**
 * Makes a table anew with all its rows, in one transaction: whoever looks sees none of it or all. Foreign keys come after all
 * tables are there.
 *
 * @throws VERIFICATION_FAILED when its rows are not those of the source; then it is not there
 */
export async function recreateTable(
  source: RowSource,
  live: Session,
  table: DroppedTable,
  options: { readonly signal: AbortSignal; readonly onRows: (rows: number) => void },
): Promise<UndoneTable> {
  const { signal } = options;
  const { shape } = table;
  const doing = `make ${shape.schema}.${shape.name} anew`;
  const run = (text: string): Promise<object[]> => queryRows(live, doing, { text, signal });
  const runPhase = async (phase: 'table' | 'filled'): Promise<void> => {
    for (const statement of table.definition.statements)
      if (statement.phase === phase) await run(statement.text);
  };
  await run('begin');
  try {
    await runPhase('table');
    await fill(source, live, table, options);
    await runPhase('filled');
    const now = await totalsOf(live, shape, signal);
    if (now.rows !== table.rows || now.checksum !== table.checksum)
      throw new AppError('VERIFICATION_FAILED', `unable to ${doing}: its rows are not those of the source`);
    await run('commit');
    return {
      schema: shape.schema,
      table: shape.name,
      inserted: now.rows,
      setBack: 0,
      proof: {
        rows: now.rows,
        sourceChecksum: table.checksum,
        liveChecksum: now.checksum,
        equal: now.checksum === table.checksum,
      },
    };
  } catch (error) {
    await run('rollback').catch(() => undefined);
    throw error;
  }
}

async function fill(
  source: RowSource,
  live: Session,
  { shape }: DroppedTable,
  { signal, onRows }: { readonly signal: AbortSignal; readonly onRows: (rows: number) => void },
): Promise<void> {
  const doing = `fill ${shape.schema}.${shape.name}`;
  const columns = carriedNames(shape);
  if (columns.length === 0) return;
  const target = await startCopyIn(
    live,
    doing,
    `copy ${quotedName(shape)} (${columns.join(', ')}) from stdin`,
  );
  const text = `copy (select ${columns.join(', ')} from only ${quotedName(shape)}) to stdout`;
  try {
    onRows(await copyRowsTo(source.session, { doing, text, signal }, target));
  } catch (error) {
    await target.abandon();
    throw error;
  }
  await target.finish();
}

/**
 * Foreign keys from and to tables that were dropped. Gives those that could not be made, each with its reason.
 *
 * @param tables as the source has them
 */
export async function recreateReferences(
  source: RowSource,
  live: Session,
  tables: readonly Pick<TableShape, 'oid'>[],
  signal: AbortSignal,
): Promise<string[]> {
  const texts = new Set<string>();
  for (const { oid } of tables) {
    const { statements } = await readTableDefinition(source.session, oid, signal);
    for (const each of statements) if (each.phase === 'references') texts.add(each.text);
  }
  const problems: string[] = [];
  for (const text of texts) {
    try {
      await queryRows(live, 'make a foreign key anew', { text, signal });
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof AppError) || error.code === 'DATABASE_UNREACHABLE') throw error;
      // Made by a run that was cut off. @source PostgreSQL manual, "PostgreSQL Error Codes", duplicate_object
      if (error.details?.['sqlState'] === '42710') continue;
      problems.push(`${error.message}; to be made by hand: ${text}`);
    }
  }
  return problems;
}

function carriedNames(shape: TableShape): string[] {
  return shape.columns.filter(each => !each.generated).map(each => quoteIdentifier(each.name));
}

async function totalsOf(
  session: Session,
  shape: TableShape,
  signal: AbortSignal,
): Promise<{ readonly rows: number; readonly checksum: string }> {
  return await queryRow(session, `count the rows of ${shape.schema}.${shape.name}`, {
    text: `select count(*)::float8 as rows, coalesce(sum(${rowHash(carriedNames(shape))}), 0)::text as checksum
           from only ${quotedName(shape)}`,
    signal,
  });
}
