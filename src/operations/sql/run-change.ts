import { AppError } from '../../base/errors.ts';
import { queryRow } from '../../engines/postgres/connection.ts';
import { askFor, phraseFor, reasonsToAsk } from './confirm-statement.ts';
import { countLostRows } from './count-lost-rows.ts';
import { lookAhead, type Prospect } from './outlook.ts';
import { createScope, type Scope } from './scope.ts';
import { StatementError } from './sql-session.ts';
import { isSameEffect, type StatementReport } from './statement-report.ts';
import type { StatementRun } from './statement-run.ts';
import {
  type AllowedBefore,
  allowMassWrites,
  allowNoMore,
  type Trial,
  tryStatement,
} from './try-statement.ts';

/**
 * Runs a statement that changes something, or may. It is tried first, in a transaction: what changes little stays, and is
 * committed. Anything else is taken back, so that nobody waits for locks while a person thinks; when it is confirmed it runs
 * again, and stays only if it does what was confirmed.
 *
 * @throws StatementError CONFIRMATION_REQUIRED
 */
export async function runChange(run: StatementRun): Promise<StatementReport> {
  const scope = createScope(run.session, { readOnly: false });
  const { trial, refusedByServer } = await firstTrial(run, scope);
  const asks = reasonsToAsk(run.found, trial.report, { maxRows: run.settings.maxRows, refusedByServer });
  const judged = { ...trial, report: { ...trial.report, reasons: asks } };
  if (run.dryRun) return await endDryRun(run, scope, judged);
  if (asks.length === 0) return await keep(run, scope, { trial: judged, lsn: null });
  if (run.settings.confirmed) {
    if (trial.lsn !== null) run.handlers.onRecoveryPoint(trial.lsn);
    return await keep(run, scope, { trial: judged, lsn: trial.lsn });
  }
  await scope.undo();
  let tried = await withLostRows(run, judged.report);
  for (let changedMeanwhile = false; ; changedMeanwhile = true) {
    await askFor(run, {
      reasons: tried.reasons,
      tried,
      changedMeanwhile,
      phrase: phraseFor(run.found, tried),
      holdsLocks: scope.nested,
    });
    const again = await runConfirmed(run, scope, run.handlers.onRecoveryPoint);
    const now = reasonsToAsk(run.found, again.report, { maxRows: run.settings.maxRows, refusedByServer });
    const report = { ...again.report, reasons: now.length === 0 ? asks : now };
    if (isSameEffect(tried, report))
      return await keep(run, scope, { trial: { ...again, report }, lsn: again.lsn });
    await scope.undo();
    tried = await withLostRows(run, report);
  }
}

/** A trial, with the position of the log before it. */
interface PlacedTrial extends Trial {
  readonly lsn: string | null;
  /** Null: nothing was allowed for it. */
  readonly allowedBefore: AllowedBefore | null;
}

async function firstTrial(
  run: StatementRun,
  scope: Scope,
): Promise<{ readonly trial: PlacedTrial; readonly refusedByServer: boolean }> {
  await scope.open();
  try {
    const prospect = await lookAhead(run.session, run.statement.text, { found: run.found, scope });
    run.handlers.onOutlook(prospect.outlook);
    const lsn = await recoveryPoint(run);
    // Everything was confirmed beforehand.
    const allowedBefore = run.settings.confirmed ? await allowMassWrites(run.session) : null;
    const trial = await tryStatement(run, { scope, sample: sampleFor(run, prospect) });
    run.signal.throwIfAborted();
    return { trial: { ...trial, lsn, allowedBefore }, refusedByServer: false };
  } catch (error) {
    await scope.undo().catch(() => undefined);
    if (!isRefusedByServer(error)) throw error;
  }
  // The triggers of `aishell security harden` let it through when it is confirmed: so it is tried as if it were.
  return { trial: await runConfirmed(run, scope), refusedByServer: true };
}

function isRefusedByServer(error: unknown): boolean {
  if (!(error instanceof StatementError)) return false;
  const { message, detail, hint } = error.failure;
  return `${message} ${detail ?? ''} ${hint ?? ''}`.includes('aishell.allow_');
}

/** Keys are shown of rows that are surely asked about: the statement that is committed stays as it was written. */
function sampleFor(
  { found, statement, settings, dryRun }: StatementRun,
  prospect: Prospect,
): Prospect['keyed'] {
  const plain = /^(DeleteStmt|UpdateStmt)$/.test(statement.type) && !('returningList' in statement.tree);
  const shown = dryRun || (!settings.confirmed && asksSurely(found.dangers, prospect, settings.maxRows));
  return plain && !('returningClause' in statement.tree) && shown ? prospect.keyed : null;
}

function asksSurely(dangers: readonly string[], { estimatedRows }: Prospect, maxRows: number): boolean {
  return dangers.length > 0 || estimatedRows > maxRows;
}

async function runConfirmed(
  run: StatementRun,
  scope: Scope,
  onRecoveryPoint?: (lsn: string) => void,
): Promise<PlacedTrial> {
  await scope.open();
  try {
    const lsn = await recoveryPoint(run);
    if (lsn !== null) onRecoveryPoint?.(lsn);
    const allowedBefore = await allowMassWrites(run.session);
    const trial = await tryStatement(run, { scope, sample: null });
    run.signal.throwIfAborted();
    return { ...trial, lsn, allowedBefore };
  } catch (error) {
    await scope.undo().catch(() => undefined);
    throw error;
  }
}

/** Where the log is now. Null for a user who may not know, and on a standby. */
async function recoveryPoint({ session, inRecovery }: StatementRun): Promise<string | null> {
  if (inRecovery) return null;
  const { lsn } = await queryRow<{ lsn: string | null }>(session, 'ask for the position of the log', {
    text: `select case when pg_catalog.has_function_privilege('pg_catalog.pg_current_wal_insert_lsn()', 'execute')
                       then pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text end as lsn`,
  });
  return lsn;
}

async function withLostRows({ session }: StatementRun, report: StatementReport): Promise<StatementReport> {
  return { ...report, tables: await countLostRows(session, report.tables) };
}

async function endDryRun(run: StatementRun, scope: Scope, trial: PlacedTrial): Promise<StatementReport> {
  await showRows(run, trial);
  // In the user's own transaction later statements see it; the transaction itself is rolled back at its end.
  if (scope.nested) await keepNested(run, scope, trial);
  else await scope.undo();
  const report: StatementReport = { ...trial.report, outcome: 'dry run' };
  return scope.nested ? report : await withLostRows(run, report);
}

async function keep(
  run: StatementRun,
  scope: Scope,
  { trial, lsn }: { readonly trial: PlacedTrial; readonly lsn: string | null },
): Promise<StatementReport> {
  const { report } = trial;
  if (scope.nested) await keepNested(run, scope, trial);
  else await commitScope(scope, report.xid);
  await showRows(run, trial);
  const recovery = lsn === null || report.xid === null ? null : { xid: report.xid, lsn };
  const seconds = (performance.now() - run.startedMs) / 1000;
  return { ...report, outcome: scope.nested ? 'open' : 'committed', recovery, seconds };
}

/** The user's transaction goes on, without what was allowed for this statement. */
async function keepNested({ session }: StatementRun, scope: Scope, trial: PlacedTrial): Promise<void> {
  await scope.keep();
  if (trial.allowedBefore !== null) await allowNoMore(session, trial.allowedBefore);
}

/** A commit whose answer is lost may have happened: that must not read like a failure. */
async function commitScope(scope: Scope, xid: string | null): Promise<void> {
  try {
    await scope.keep();
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'DATABASE_UNREACHABLE') throw error;
    throw unknownCommit(error, xid);
  }
}

/** The connection was lost while a transaction was committed. */
export function unknownCommit(error: unknown, xid: string | null): AppError {
  const ask = xid === null ? 'Look whether the change is there.' : `Ask: select pg_xact_status('${xid}');`;
  return new AppError(
    'DATABASE_UNREACHABLE',
    'unable to say whether it was committed: the connection was lost meanwhile',
    { hint: ask, cause: error, details: { xid } },
  );
}

async function showRows({ handlers }: StatementRun, { rows, report }: Trial): Promise<void> {
  // Keys that it was made to give are no result of the statement.
  if (rows.kept.length > 0 && report.columns !== null) await handlers.onRows(rows.kept, report.columns);
}

const outside = 'PostgreSQL does not run it inside a transaction: it can be neither tried nor taken back';

/** Asks about what is not tried beforehand. @throws CONFIRMATION_REQUIRED */
export async function confirmUntried(run: StatementRun): Promise<void> {
  if (run.found.dangers.length === 0) return;
  await askFor(run, {
    reasons: run.found.outside ? [...run.found.dangers, outside] : run.found.dangers,
    tried: null,
    changedMeanwhile: false,
    phrase: phraseFor(run.found, null),
    holdsLocks: run.session.getTransactionStatus() !== 'I',
  });
}
