import { AppError, toErrorRecord } from '../../base/errors.ts';
import { formatSeconds } from '../../base/sizes.ts';
import { isProblem, isWholeInput, type ParsedStatement } from '../../engines/postgres/sql/sql-parser.ts';
import { markPosition } from '../../engines/postgres/sql/statement-failure.ts';
import { SqlConsole } from '../../operations/sql/sql-console.ts';
import type { Question, SqlContext, SqlSettings } from '../../operations/sql/sql-context.ts';
import { StatementError } from '../../operations/sql/sql-session.ts';
import { errorLines } from '../render/error-text.ts';
import { printable } from '../render/page.ts';
import { failureLines } from '../render/sql-page.ts';
import type { CommandRun } from '../run-command.ts';
import { type Answer, askConfirmation } from './ask-confirmation.ts';
import { type InputHistory, openInputHistory } from './input-history.ts';
import { type ConsoleSwitches, isMetaCommand, runMetaCommand } from './meta-commands.ts';
import { openPromptLines, type PromptLines } from './prompt-lines.ts';
import type { ScriptResult } from './run-script.ts';
import { createDisplay } from './statement-display.ts';

/** A console that somebody types at, until they leave it. */
export async function runInteractive(
  run: CommandRun,
  { context, settings }: { readonly context: SqlContext; readonly settings: SqlSettings },
  options: { readonly dryRun: boolean; readonly answerSeconds: number },
): Promise<ScriptResult> {
  await using opened = await SqlConsole.open(context, settings, run.signal);
  const history = await openInputHistory(context.historyDirectory, context.parser);
  const lines = openPromptLines(run.terminal, history.entries);
  const end = (): void => lines.close();
  run.signal.addEventListener('abort', end, { once: true });
  try {
    return await new InteractiveConsole({ run, context, settings, opened, history, lines, options }).loop();
  } finally {
    run.signal.removeEventListener('abort', end);
    lines.close();
  }
}

interface Parts {
  readonly run: CommandRun;
  readonly context: SqlContext;
  readonly settings: SqlSettings;
  readonly opened: SqlConsole;
  readonly history: InputHistory;
  readonly lines: PromptLines;
  readonly options: { readonly dryRun: boolean; readonly answerSeconds: number };
}

class InteractiveConsole {
  readonly #parts: Parts;
  readonly #switches: ConsoleSwitches;
  /** Lines of a statement that is not whole yet. */
  #typed = '';
  /** The statement that runs; null at the prompt. */
  #running: AbortController | null = null;
  #result = { statements: 0, committed: 0, changedRows: 0 };

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#switches = { dryRun: parts.options.dryRun, timing: false };
    parts.lines.onInterrupt = () => this.#interrupt();
  }

  async loop(): Promise<ScriptResult> {
    const { lines, run, opened } = this.#parts;
    this.#greet();
    for (;;) {
      const line = await lines.next(this.#prompt());
      if (line === null || run.signal.aborted) break;
      // As in psql, a statement that was begun does not keep anybody in.
      if ((this.#typed === '' && isMetaCommand(line)) || line.trim() === '\\q') {
        if (!(await this.#meta(line))) break;
      } else await this.#take(line);
    }
    run.signal.throwIfAborted();
    return { ...this.#result, leftOpen: opened.transaction !== 'none' };
  }

  #greet(): void {
    const { run, opened, context, settings } = this.#parts;
    const { version, database, role, inRecovery } = opened.facts;
    run.show(page => {
      page.line(`${page.style.title('aishell sql')} · ${context.instance} · PostgreSQL ${version}`);
      page.line(
        page.style.dim(`database ${printable(database)} as ${printable(role)}; \\? for help, \\q to leave`),
      );
      if (inRecovery)
        page.line(page.style.warn('This server is a standby, or is in recovery: it takes no writes.'));
      if (settings.readOnly) page.line(page.style.warn('Read-only: nothing can be changed in here.'));
      if (settings.confirmed)
        page.line(page.style.warn('--yes: nothing is asked about, everything is committed.'));
    });
  }

  /** `shop=# `, as psql has it: `*` in a transaction, `!` in a failed one, `-` where a statement goes on. */
  #prompt(): string {
    const { opened } = this.#parts;
    const { database, isSuperuser } = opened.facts;
    const mark = { none: '', open: '*', failed: '!' }[opened.transaction];
    const dry = this.#switches.dryRun ? '(dry run) ' : '';
    return `${dry}${printable(database)}${this.#typed === '' ? '=' : '-'}${mark}${isSuperuser ? '#' : '>'} `;
  }

  #interrupt(): void {
    if (this.#running !== null) {
      this.#running.abort(new DOMException('cancelled', 'AbortError'));
      return;
    }
    const { lines, run } = this.#parts;
    lines.clear();
    this.#typed = '';
    run.terminal.stdout.write('^C\n');
    lines.redraw(this.#prompt());
  }

  async #meta(line: string): Promise<boolean> {
    const { run, opened, context, lines, history } = this.#parts;
    await history.add(line);
    lines.remember(history.entries);
    try {
      return await runMetaCommand(line, { run, opened, context, switches: this.#switches });
    } catch (error) {
      this.#showError(error);
      return true;
    }
  }

  async #take(line: string): Promise<void> {
    const { context, history, lines } = this.#parts;
    this.#typed += this.#typed === '' ? line : `\n${line}`;
    if (this.#typed.trim() === '') this.#typed = '';
    // Most lines end no statement: what is long is not read again for each of them.
    if (!line.includes(';') || !isWholeInput(context.parser, this.#typed)) return;
    const input = this.#typed;
    this.#typed = '';
    await history.add(input);
    lines.remember(history.entries);
    const parsed = context.parser.parse(input);
    if (isProblem(parsed)) {
      const marked = markPosition(input, parsed.position + 1).map(each => printable(each));
      this.#write([`ERROR:  ${parsed.message}`, ...marked]);
      return;
    }
    for (const statement of parsed) if (!(await this.#run(statement))) return;
  }

  /** False: it failed, and what was typed behind it does not run. */
  async #run(statement: ParsedStatement): Promise<boolean> {
    const { run, opened, options } = this.#parts;
    const running = new AbortController();
    this.#running = running;
    const signal = AbortSignal.any([running.signal, run.signal]);
    const { answerSeconds } = options;
    this.#result.statements += 1;
    const display = createDisplay(run, {
      number: this.#result.statements,
      answerSeconds,
      ask: question => this.#ask(question, signal),
    });
    try {
      const report = await opened.run(statement, {
        dryRun: this.#switches.dryRun,
        handlers: display.handlers,
        signal,
      });
      display.finish(report);
      this.#result.committed += report.outcome === 'committed' ? 1 : 0;
      this.#result.changedRows += report.changedRows;
      if (this.#switches.timing) this.#write([`Time: ${formatSeconds(report.seconds)}`]);
      return true;
    } catch (error) {
      if (running.signal.aborted && !(error instanceof AppError))
        this.#write(['', 'cancelled: nothing of it stays']);
      else this.#showError(error);
      if (error instanceof AppError && error.code === 'DATABASE_UNREACHABLE') throw error;
      this.#forget();
      return false;
    } finally {
      this.#running = null;
    }
  }

  /** What was typed, or pasted, behind a statement that failed or asks was meant to follow it. */
  #forget(): void {
    const count = this.#parts.lines.forget();
    if (count > 0) this.#write([`(${count} line${count === 1 ? '' : 's'} typed ahead: forgotten)`]);
  }

  async #ask(question: Question, signal: AbortSignal): Promise<Answer> {
    const { lines, options } = this.#parts;
    this.#forget();
    const readLine = (text: string, stop: AbortSignal): Promise<string | null> => lines.answer(text, stop);
    return await askConfirmation(question, { answerSeconds: options.answerSeconds, signal, readLine });
  }

  #showError(error: unknown): void {
    const { run } = this.#parts;
    if (!(error instanceof StatementError)) {
      run.show(page => {
        for (const line of errorLines(toErrorRecord(error), page.style)) page.line(line);
      });
      return;
    }
    const { failure, text, hint } = error;
    this.#write([
      `ERROR:  ${printable(failure.message)}`,
      ...failureLines(failure, text),
      ...(hint === undefined ? [] : [`HINT:  ${printable(hint)}`]),
    ]);
  }

  #write(lines: readonly string[]): void {
    this.#parts.run.show(page => {
      for (const line of lines) page.line(line.startsWith('ERROR:') ? page.style.bad(line) : line);
    });
  }
}
