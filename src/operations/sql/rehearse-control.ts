import { queryRows } from '../../engines/postgres/connection.ts';
import { runPlain } from './run-read.ts';
import type { StatementReport } from './statement-report.ts';
import { blankReport, type StatementRun } from './statement-run.ts';

const SAVEPOINT = 'aishell_transaction';

/** A whole input in one transaction that is never committed: the transactions in it are savepoints. */
export interface Rehearsal {
  /** The input is between its BEGIN and its COMMIT or ROLLBACK. */
  isInside: boolean;
}

/** BEGIN, COMMIT and ROLLBACK of an input that is only tried: later statements see what earlier ones did. */
export async function rehearseControl(run: StatementRun, rehearsal: Rehearsal): Promise<StatementReport> {
  const { control, command } = run.found;
  const wasInside = rehearsal.isInside;
  if (control === 'begin' && !wasInside) {
    rehearsal.isInside = true;
    await send(run, [`savepoint ${SAVEPOINT}`]);
  } else if (wasInside && (control === 'commit' || control === 'rollback')) {
    rehearsal.isInside = false;
    const back = control === 'rollback' ? [`rollback to savepoint ${SAVEPOINT}`] : [];
    await send(run, [...back, `release savepoint ${SAVEPOINT}`]);
  } else if (control !== 'commit' && control !== 'rollback') return await runPlain(run);
  return { ...blankReport(run, 'dry run'), tag: command };
}

async function send({ session }: StatementRun, statements: readonly string[]): Promise<void> {
  for (const text of statements) await queryRows(session, 'rehearse the transaction', { text });
}
