import { collectRows } from './collect-rows.ts';
import { createScope } from './scope.ts';
import { runText, StatementError } from './sql-session.ts';
import type { StatementReport } from './statement-report.ts';
import { blankReport, type StatementRun } from './statement-run.ts';

/** @source PostgreSQL manual, "PostgreSQL Error Codes", read_only_sql_transaction */
const READ_ONLY = '25006';

/**
 * Runs what only reads in a transaction that the server keeps read-only, whatever the statement turns out to call. Null when it
 * wanted to write, and nothing of it was shown yet.
 *
 * @throws StatementError
 */
export async function runRead(run: StatementRun): Promise<StatementReport | null> {
  const { session, statement, found, settings, handlers } = run;
  let shown = false;
  const rows = collectRows({
    keep: settings.limit ?? Number.POSITIVE_INFINITY,
    // EXPLAIN ANALYZE is to run to its end.
    stops: !found.explains,
    onRows: async (portion, columns) => {
      shown = true;
      await handlers.onRows(portion, columns);
    },
  });
  const scope = createScope(session, { readOnly: true });
  await scope.open();
  try {
    const result = await runText(session, statement.text, rows);
    await scope.keep();
    return {
      ...blankReport(run, 'done'),
      tag: result.tag,
      columns: result.columns,
      resultRows: result.readRows,
      hidden: rows.hidden(),
    };
  } catch (error) {
    await scope.undo().catch(() => undefined);
    const writes = error instanceof StatementError && error.failure.sqlState === READ_ONLY;
    if (writes && !shown && !settings.readOnly && !run.inRecovery) return null;
    throw error;
  }
}

/** Runs a statement as it is: what changes no data, and what PostgreSQL runs outside of transactions alone. @throws StatementError */
export async function runPlain(run: StatementRun): Promise<StatementReport> {
  const { session, statement, settings, handlers } = run;
  const rows = collectRows({
    keep: settings.limit ?? Number.POSITIVE_INFINITY,
    stops: false,
    onRows: handlers.onRows,
  });
  try {
    const result = await runText(session, statement.text, rows);
    return {
      ...blankReport(run, 'done'),
      tag: result.tag,
      columns: result.columns,
      resultRows: result.readRows,
      hidden: rows.hidden(),
    };
  } catch (error) {
    // An empty statement, so that the state of the transaction is known again before anything is decided by it.
    await session.query('').catch(() => undefined);
    throw error;
  }
}
