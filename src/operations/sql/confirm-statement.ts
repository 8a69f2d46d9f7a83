import { AppError } from '../../base/errors.ts';
import { formatCount } from '../../base/sizes.ts';
import { formatTable } from '../../engines/postgres/sql/row-changes.ts';
import type { StatementClass } from '../../engines/postgres/sql/statement-class.ts';
import type { Question, SqlSettings } from './sql-context.ts';
import type { StatementReport } from './statement-report.ts';
import type { StatementRun } from './statement-run.ts';

const MOST_NAMES = 3;

/** Why a statement needs a confirmation after it was tried; empty where it needs none. */
export function reasonsToAsk(
  found: StatementClass,
  report: StatementReport,
  { maxRows, refusedByServer }: Pick<SqlSettings, 'maxRows'> & { readonly refusedByServer: boolean },
): readonly string[] {
  const whole = report.tables.filter(each => each.whole === 'dropped' || each.whole === 'emptied');
  const changesRowsAlone = found.kind === 'write' && found.lasting.length === 0 && whole.length === 0;
  // A DELETE without WHERE on an empty table.
  const reasons = changesRowsAlone && report.changedRows === 0 ? [] : [...found.dangers];
  if (reasons.length === 0 && whole.length > 0) {
    reasons.push(`it removes or empties ${whole.map(({ table }) => table).join(', ')}`);
  }
  if (report.changedRows > maxRows) {
    const [rows, limit] = [formatCount(report.changedRows), formatCount(maxRows)];
    reasons.push(`it changes ${rows} rows; more than ${limit} are asked about`);
  }
  if (refusedByServer) reasons.push("the server's own protection refuses it without a confirmation");
  return reasons;
}

/** What has to be typed: the number of rows, or what is removed. */
export function phraseFor(found: StatementClass, report: StatementReport | null): string {
  if (report !== null && report.changedRows > 0) return String(report.changedRows);
  const names = [...new Set(found.objects.map(formatTable))].filter(name => name !== '');
  if (names.length === 0) return 'YES';
  return names.length > MOST_NAMES ? `${names.length} objects` : names.join(', ');
}

/** Whether an answer is the phrase; a number may have separators. */
export function isPhrase(answer: string, phrase: string): boolean {
  const given = answer.trim();
  return given === phrase || (/^\d+$/.test(phrase) && given.replace(/[,_ ]/g, '') === phrase);
}

/** Nobody answered in time. */
export class UnansweredError extends AppError {
  constructor(message: string, hint: string) {
    super('CONFIRMATION_REQUIRED', message, { hint });
  }
}

/** Asks, and returns when the answer is yes. @throws CONFIRMATION_REQUIRED */
export async function askFor(run: StatementRun, question: Question): Promise<void> {
  if (run.settings.confirmed) return;
  const answer = await run.handlers.confirm(question);
  run.signal.throwIfAborted();
  if (answer === 'yes') return;
  const nothing = 'Nothing of it was changed.';
  const refuse = (message: string, hint: string): AppError =>
    new AppError('CONFIRMATION_REQUIRED', message, {
      hint,
      details: { reasons: question.reasons, changedRows: question.tried?.changedRows ?? null },
    });
  if (answer === 'nobody') {
    throw refuse(
      `unable to run the statement without a confirmation: ${question.reasons.join('; ')}`,
      `${nothing} Run it in a terminal, or look at it with --dry-run and then give --yes.`,
    );
  }
  if (answer === 'timeout')
    throw new UnansweredError('unable to run the statement: nobody has confirmed it in time', nothing);
  throw refuse(`unable to run the statement: the answer was not '${question.phrase}'`, nothing);
}
