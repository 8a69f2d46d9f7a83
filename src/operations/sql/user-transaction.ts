import { AppError } from '../../base/errors.ts';
import { formatCount } from '../../base/sizes.ts';
import { queryRow, queryRows } from '../../engines/postgres/connection.ts';
import { askFor } from './confirm-statement.ts';
import { unknownCommit } from './run-change.ts';
import { runPlain } from './run-read.ts';
import type { StatementReport } from './statement-report.ts';
import { blankReport, type StatementRun } from './statement-run.ts';

/** What a transaction that the user began has done so far. */
export interface OpenTransaction {
  /** Changed by statements that each stayed below the limit. */
  readonly unconfirmedRows: number;
  /** Where the log was before the first statement that was confirmed; null where none was. */
  readonly lsn: string | null;
}

/**
 * COMMIT or PREPARE TRANSACTION: many small changes together may be a large one. A dry run rolls back instead.
 * @throws StatementError CONFIRMATION_REQUIRED: the transaction is still open
 */
export async function endTransaction(
  run: StatementRun,
  { unconfirmedRows, lsn }: OpenTransaction,
): Promise<StatementReport> {
  const { session, settings } = run;
  if (run.dryRun) {
    await queryRows(session, 'roll back', { text: 'rollback' });
    return { ...blankReport(run, 'dry run'), tag: 'ROLLBACK' };
  }
  const isOpen = session.getTransactionStatus() === 'T';
  if (isOpen && unconfirmedRows > settings.maxRows) {
    const many = `its statements together change ${formatCount(unconfirmedRows)} rows`;
    await askFor(run, {
      reasons: [`${many}; more than ${formatCount(settings.maxRows)} are asked about`],
      tried: null,
      changedMeanwhile: false,
      phrase: String(unconfirmedRows),
      holdsLocks: true,
    });
  }
  const xid = isOpen ? await currentXid(run) : null;
  try {
    const report = await runPlain(run);
    const committed = report.tag === 'COMMIT' || report.tag === 'PREPARE TRANSACTION';
    if (!committed) return { ...report, outcome: 'rolled back' };
    const recovery = lsn === null || xid === null ? null : { xid, lsn };
    return { ...report, outcome: xid === null ? 'done' : 'committed', xid, recovery };
  } catch (error) {
    if (error instanceof AppError && error.code === 'DATABASE_UNREACHABLE') throw unknownCommit(error, xid);
    throw error;
  }
}

async function currentXid({ session }: StatementRun): Promise<string | null> {
  const { xid } = await queryRow<{ xid: string | null }>(session, 'ask for the transaction', {
    text: 'select pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text as xid',
  });
  return xid;
}
