import { AppError } from '../../base/errors.ts';
import { isProblem, type ParsedStatement } from '../../engines/postgres/sql/sql-parser.ts';
import { markPosition } from '../../engines/postgres/sql/statement-failure.ts';
import { SqlConsole } from '../../operations/sql/sql-console.ts';
import type { SqlContext, SqlSettings } from '../../operations/sql/sql-context.ts';
import { StatementError } from '../../operations/sql/sql-session.ts';
import { printable } from '../render/page.ts';
import { failureLines } from '../render/sql-page.ts';
import type { CommandRun } from '../run-command.ts';
import { askOnTerminal } from './ask-confirmation.ts';
import { createDisplay } from './statement-display.ts';

/** What a whole input has done. */
export interface ScriptResult {
  readonly statements: number;
  readonly committed: number;
  readonly changedRows: number;
  /** A transaction was left open at the end of the input, and rolled back. */
  readonly leftOpen: boolean;
}

export interface ScriptOptions {
  readonly dryRun: boolean;
  readonly answerSeconds: number;
}

/**
 * Runs an input statement by statement, each in a transaction of its own unless it holds BEGIN, and stops at the first failure.
 * All of it is read first: nothing runs when a part of it is no SQL, or has to be confirmed and there is nobody to ask.
 *
 * @throws SQL_SYNTAX CONFIRMATION_REQUIRED and as SqlConsole.run
 */
export async function runScript(
  run: CommandRun,
  {
    context,
    settings,
    input,
  }: { readonly context: SqlContext; readonly settings: SqlSettings; readonly input: string },
  options: ScriptOptions,
): Promise<ScriptResult> {
  const statements = parseInput(run, context, input);
  await using opened = await SqlConsole.open(context, settings, run.signal);
  // What EXECUTE does is known when the PREPARE before it has run.
  const known = statements.filter(({ type }) => type !== 'ExecuteStmt');
  for (const statement of known) opened.check(statement, options.dryRun);
  if (!canAsk(run) && !settings.confirmed && !options.dryRun) refuseDangers(opened, known);
  if (options.dryRun && statements.length > 1) await opened.rehearse();
  let committed = 0;
  let changedRows = 0;
  for (const [index, statement] of statements.entries()) {
    run.signal.throwIfAborted();
    const { answerSeconds } = options;
    const ask = (question: Parameters<typeof askOnTerminal>[1]): ReturnType<typeof askOnTerminal> =>
      askOnTerminal(run, question, { answerSeconds, signal: run.signal });
    const display = createDisplay(run, {
      number: index + 1,
      answerSeconds: canAsk(run) ? answerSeconds : null,
      ask,
    });
    try {
      const report = await opened.run(statement, {
        dryRun: options.dryRun,
        handlers: display.handlers,
        signal: run.signal,
      });
      display.finish(report);
      committed += report.outcome === 'committed' ? 1 : 0;
      changedRows += report.changedRows;
    } catch (error) {
      throw withPlace(run, error, { number: index + 1, statement, of: statements.length });
    }
  }
  if (options.dryRun && run.flags.quiet !== true)
    run.show(page => page.line('Dry run: nothing of it stays, but numbers that sequences gave out.'));
  const leftOpen = !options.dryRun && opened.transaction !== 'none';
  if (leftOpen) {
    const message = 'the input ended inside a transaction, which was rolled back: it needs a COMMIT';
    run.onEvent({ type: 'note', level: 'warning', message });
  }
  return { statements: statements.length, committed, changedRows, leftOpen };
}

/** @throws SQL_SYNTAX */
function parseInput(run: CommandRun, context: SqlContext, input: string): readonly ParsedStatement[] {
  const parsed = context.parser.parse(input);
  if (!isProblem(parsed)) return parsed;
  if (run.flags.json !== true) {
    for (const line of markPosition(input, parsed.position + 1))
      run.terminal.stderr.write(`${printable(line)}\n`);
  }
  throw new AppError('SQL_SYNTAX', `unable to read the SQL: ${parsed.message}`, {
    hint: 'Nothing was run: all of an input must be SQL before any of it is.',
    details: { position: parsed.position + 1 },
  });
}

function canAsk({ terminal, flags }: CommandRun): boolean {
  return terminal.stdin.isTTY === true && terminal.stdout.isTTY === true && flags.json !== true;
}

/** @throws CONFIRMATION_REQUIRED */
function refuseDangers(opened: SqlConsole, statements: readonly ParsedStatement[]): void {
  for (const statement of statements) {
    const { dangers } = opened.classify(statement);
    if (dangers.length === 0) continue;
    throw new AppError(
      'CONFIRMATION_REQUIRED',
      `unable to run the input without a confirmation: ${dangers.join('; ')}`,
      {
        hint: 'Nothing was run. Run it in a terminal, or look at it with --dry-run and then give --yes.',
        details: { reasons: dangers },
      },
    );
  }
}

/** The error with the statement that it is of; its lines are drawn before it. */
function withPlace(
  run: CommandRun,
  error: unknown,
  place: { readonly number: number; readonly statement: ParsedStatement; readonly of: number },
): unknown {
  if (!(error instanceof AppError)) return error;
  if (error instanceof StatementError && run.flags.json !== true) {
    for (const line of failureLines(error.failure, error.text)) run.terminal.stderr.write(`${line}\n`);
  }
  const message =
    place.of === 1 ? error.message : `${error.message} (statement ${place.number} of ${place.of})`;
  return new AppError(error.code, message, {
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    cause: error,
    details: { ...error.details, statement: place.number },
  });
}
