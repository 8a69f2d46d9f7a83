import { confirmUntried, runChange } from './run-change.ts';
import { runPlain } from './run-read.ts';
import { StatementError } from './sql-session.ts';
import type { StatementReport } from './statement-report.ts';
import type { StatementRun } from './statement-run.ts';

/** @source PostgreSQL manual, "PostgreSQL Error Codes", invalid_transaction_termination */
const COMMITS_ITSELF = '2D000';

/** As runChange, for code that may end transactions itself: it can be tried in none. @throws as runChange */
export async function runOpaque(run: StatementRun): Promise<StatementReport> {
  try {
    return await runChange(run);
  } catch (error) {
    const commits = error instanceof StatementError && error.failure.sqlState === COMMITS_ITSELF;
    const isNested = run.session.getTransactionStatus() !== 'I';
    if (!commits || isNested || run.dryRun) throw error;
  }
  const danger = `this ${run.found.command} commits by itself, so it cannot be tried, and what it does stays`;
  const found = { ...run.found, dangers: [...run.found.dangers, danger] };
  await confirmUntried({ ...run, found });
  return await runPlain({ ...run, found });
}
