import type { Session } from '../../engines/postgres/connection.ts';
import type { ParsedStatement } from '../../engines/postgres/sql/sql-parser.ts';
import type { StatementClass } from '../../engines/postgres/sql/statement-class.ts';
import type { SqlHandlers, SqlSettings } from './sql-context.ts';
import type { Outcome, StatementReport } from './statement-report.ts';

/** One statement on its way. */
export interface StatementRun {
  readonly session: Session;
  readonly statement: ParsedStatement;
  readonly found: StatementClass;
  readonly settings: SqlSettings;
  readonly handlers: SqlHandlers;
  /** Nothing of it is to stay. */
  readonly dryRun: boolean;
  readonly inRecovery: boolean;
  /** Aborted when somebody cancels it; the server is told as well. */
  readonly signal: AbortSignal;
  /** Milliseconds that only go forward. */
  readonly startedMs: number;
}

/** A report of a statement that has done nothing yet. */
export function blankReport(
  { found, startedMs }: Pick<StatementRun, 'found' | 'startedMs'>,
  outcome: Outcome,
): StatementReport {
  return {
    command: found.command,
    outcome,
    tag: null,
    columns: null,
    resultRows: 0,
    hidden: { rows: 0, atLeast: false },
    tables: [],
    changedRows: 0,
    sampleKeys: [],
    reasons: [],
    xid: null,
    recovery: null,
    seconds: (performance.now() - startedMs) / 1000,
  };
}
