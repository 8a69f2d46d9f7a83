import { AppError } from '../../base/errors.ts';
import type { Session } from '../../engines/postgres/connection.ts';
import { queryRow } from '../../engines/postgres/connection.ts';
import { listForeignKeys, orphansSql } from '../../engines/postgres/database-checks-foreign-keys.ts';
import type { ReferenceProblem, UndoReport } from './undo-report.ts';

/** Looks for rows that refer to nothing, in every foreign key from or to the tables that were put back. */
export async function checkReferences(
  live: Session,
  tables: readonly number[],
  signal: AbortSignal,
): Promise<NonNullable<UndoReport['references']>> {
  const problems: ReferenceProblem[] = [];
  const skipped: string[] = [];
  const keys = await listForeignKeys(live, tables, signal);
  for (const key of keys) {
    const { table, name: constraint, referencedTable } = key;
    try {
      const { orphans } = await queryRow<{ orphans: string }>(live, `check the foreign key ${constraint}`, {
        text: orphansSql(key),
        signal,
      });
      if (Number(orphans) > 0)
        problems.push({ table, constraint, referencedTable, orphans: Number(orphans) });
    } catch (error) {
      // The rows are back all the same; another role may see what this one must not.
      if (!(error instanceof AppError) || error.code !== 'DATABASE_DENIED') throw error;
      skipped.push(error.message);
    }
  }
  return { checked: keys.length - skipped.length, problems, skipped };
}
