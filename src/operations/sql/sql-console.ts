import { AppError, messageOf } from '../../base/errors.ts';
import { queryRows, type Session } from '../../engines/postgres/connection.ts';
import { classifyPreparedQuery, classifyStatement } from '../../engines/postgres/sql/classify-statement.ts';
import { maskSecrets } from '../../engines/postgres/sql/mask-secrets.ts';
import type { ParsedStatement } from '../../engines/postgres/sql/sql-parser.ts';
import type { StatementClass } from '../../engines/postgres/sql/statement-class.ts';
import { UnansweredError } from './confirm-statement.ts';
import { type Description, describeTable, listTables } from './describe-tables.ts';
import { refuseStatement } from './refuse-statement.ts';
import { type Rehearsal, rehearseControl } from './rehearse-control.ts';
import { confirmUntried, runChange } from './run-change.ts';
import { runOpaque } from './run-opaque.ts';
import { runPlain, runRead } from './run-read.ts';
import type { SqlContext, SqlHandlers, SqlSettings } from './sql-context.ts';
import { cancelStatement, openSqlSession, type SessionFacts } from './sql-session.ts';
import { recordStatement } from './statement-history.ts';
import type { StatementReport } from './statement-report.ts';
import type { StatementRun } from './statement-run.ts';
import { endTransaction, type OpenTransaction } from './user-transaction.ts';

export interface RunOptions {
  readonly dryRun: boolean;
  readonly handlers: SqlHandlers;
  readonly signal: AbortSignal;
}

/** A session with one database, in which every statement is looked at before it runs. */
export class SqlConsole implements AsyncDisposable {
  readonly facts: SessionFacts;
  readonly #context: SqlContext;
  readonly #settings: SqlSettings;
  readonly #session: Session;
  readonly #prepared = new Map<string, StatementClass>();
  /** What the user's own transaction has done so far. */
  #transaction: OpenTransaction = { unconfirmedRows: 0, lsn: null };
  #rehearsal: Rehearsal | null = null;
  #isWarned = false;

  private constructor(
    context: SqlContext,
    settings: SqlSettings,
    { session, facts }: { readonly session: Session; readonly facts: SessionFacts },
  ) {
    this.#context = context;
    this.#settings = settings;
    this.#session = session;
    this.facts = facts;
  }

  /** @throws DATABASE_UNREACHABLE DATABASE_DENIED */
  static async open(context: SqlContext, settings: SqlSettings, signal: AbortSignal): Promise<SqlConsole> {
    return new SqlConsole(context, settings, await openSqlSession(context, settings, signal));
  }

  /** Of the user's own: none, open, or failed and waiting for its ROLLBACK. */
  get transaction(): 'none' | 'open' | 'failed' {
    const status = this.#session.getTransactionStatus();
    if (status === 'T') return 'open';
    return status === 'E' ? 'failed' : 'none';
  }

  classify(statement: ParsedStatement): StatementClass {
    return classifyStatement(statement, this.#prepared);
  }

  /** Refuses beforehand what `run` would not send to the server. @throws STATEMENT_REFUSED */
  check(statement: ParsedStatement, dryRun: boolean): void {
    refuseStatement({ found: this.classify(statement), settings: this.#settings, dryRun });
  }

  /**
   * Runs one statement as its class demands, and records it.
   *
   * @throws StatementError STATEMENT_REFUSED CONFIRMATION_REQUIRED; the signal's reason when it was cancelled
   */
  async run(statement: ParsedStatement, options: RunOptions): Promise<StatementReport> {
    const startedMs = performance.now();
    const onNotice = (notice: { severity?: string | undefined; message?: string | undefined }): void =>
      options.handlers.onNotice({ severity: notice.severity ?? 'NOTICE', message: notice.message ?? '' });
    this.#session.on('notice', onNotice);
    let cancelling: Promise<void> | null = null;
    const onAbort = (): void => {
      cancelling = cancelStatement(this.#context, this.facts).catch(error =>
        options.handlers.onWarning(`the statement may still run on the server: ${messageOf(error)}`),
      );
    };
    options.signal.addEventListener('abort', onAbort, { once: true });
    try {
      const run = this.#runOf(statement, { ...options, startedMs });
      const report = await this.#dispatch(run);
      await this.#record(run, { outcome: report.outcome, report, error: null });
      return report;
    } catch (error) {
      await this.#fail(error, statement, { ...options, startedMs });
      options.signal.throwIfAborted();
      throw error;
    } finally {
      options.signal.removeEventListener('abort', onAbort);
      // The request to cancel must not reach the statement that comes next.
      await cancelling;
      this.#session.off('notice', onNotice);
    }
  }

  /**
   * Runs what follows, which must be a dry run, in one transaction that is never committed: so statements see what those
   * before them did.
   */
  async rehearse(): Promise<void> {
    await queryRows(this.#session, 'begin a transaction', { text: 'begin' });
    this.#rehearsal = { isInside: false };
  }

  /** Gives an open transaction up, and closes the session. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session.end().catch(() => undefined);
  }

  #runOf(statement: ParsedStatement, options: RunOptions & { readonly startedMs: number }): StatementRun {
    return {
      ...options,
      session: this.#session,
      statement,
      found: this.classify(statement),
      settings: this.#settings,
      inRecovery: this.facts.inRecovery,
    };
  }

  async #dispatch(run: StatementRun): Promise<StatementReport> {
    refuseStatement(run);
    const { found } = run;
    if (found.kind === 'transaction') return await this.#control(run);
    if (found.kind === 'setting') return await this.#set(run);
    if (found.kind === 'read' && found.command !== 'SHOW') return await this.#read(run);
    if (
      found.outside ||
      /^(SHOW|CHECKPOINT|LISTEN|UNLISTEN|LOCK|CLOSE|DECLARE CURSOR)$/.test(found.command)
    ) {
      await confirmUntried(run);
      return await runPlain(run);
    }
    return await this.#change(run);
  }

  async #read(run: StatementRun): Promise<StatementReport> {
    const report = await runRead(run);
    if (report !== null) return report;
    const remarks = [...run.found.remarks, 'it calls something that writes'];
    return await this.#change({ ...run, found: { ...run.found, kind: 'code', remarks } });
  }

  async #change(run: StatementRun): Promise<StatementReport> {
    const report = await (run.found.kind === 'code' ? runOpaque(run) : runChange(run));
    if (report.outcome === 'open') {
      const unconfirmed = report.recovery === null ? report.changedRows : 0;
      this.#transaction = {
        unconfirmedRows: this.#transaction.unconfirmedRows + unconfirmed,
        lsn: this.#transaction.lsn ?? report.recovery?.lsn ?? null,
      };
    }
    return report;
  }

  async #set(run: StatementRun): Promise<StatementReport> {
    const { found } = run;
    await confirmUntried(run);
    const report = await runPlain(run);
    if (found.command === 'PREPARE' && found.prepared !== null)
      this.#prepared.set(found.prepared, classifyPreparedQuery(run.statement.tree));
    else if (found.command === 'DEALLOCATE' && found.prepared !== null) this.#prepared.delete(found.prepared);
    else if (found.command === 'DISCARD' || found.command === 'DEALLOCATE') this.#prepared.clear();
    return report;
  }

  async #control(run: StatementRun): Promise<StatementReport> {
    if (this.#rehearsal !== null) return await rehearseControl(run, this.#rehearsal);
    const { control } = run.found;
    if (control === 'begin') this.#transaction = { unconfirmedRows: 0, lsn: null };
    if (control === 'commit' || control === 'prepare') return await endTransaction(run, this.#transaction);
    await confirmUntried(run);
    return await runPlain(run);
  }

  async #fail(
    error: unknown,
    statement: ParsedStatement,
    options: RunOptions & { readonly startedMs: number },
  ): Promise<void> {
    const run = this.#runOf(statement, options);
    const refused = error instanceof AppError && error.exitCode === 4;
    const outcome = options.signal.aborted ? 'cancelled' : refused ? 'refused' : 'failed';
    if (error instanceof UnansweredError && this.transaction === 'open') {
      await queryRows(this.#session, 'roll back', { text: 'rollback' }).catch(() => undefined);
      options.handlers.onWarning('the transaction was rolled back: it would have held its locks for nobody');
    }
    await this.#record(run, { outcome, report: null, error: messageOf(error) });
  }

  async #record(
    { statement, startedMs, handlers }: StatementRun,
    {
      outcome,
      report,
      error,
    }: { readonly outcome: string; readonly report: StatementReport | null; readonly error: string | null },
  ): Promise<void> {
    const { historyDirectory, parser, instance, user } = this.#context;
    try {
      if (historyDirectory === null) throw new AppError('FILE_FAILED', 'this user has no home directory');
      const masked = maskSecrets(parser, statement.text);
      await recordStatement(historyDirectory, {
        at: new Date().toISOString(),
        user,
        instance,
        database: this.facts.database,
        role: this.facts.role,
        statement: masked,
        outcome,
        rows: report === null ? null : report.changedRows,
        xid: report?.xid ?? null,
        seconds: (performance.now() - startedMs) / 1000,
        // The server may repeat in it what was left out.
        error: error === null || masked === statement.text ? error : '[redacted]',
      });
    } catch (failure) {
      // What was done is done: who ran it must hear that it is not in the history, once.
      if (!this.#isWarned) handlers.onWarning(`statements are not recorded: ${messageOf(failure)}`);
      this.#isWarned = true;
    }
  }

  /** The tables there are, or one of them. @throws as describeTable */
  async describe(name: string | null): Promise<Description> {
    return name === null ? await listTables(this.#session) : await describeTable(this.#session, name);
  }
}
