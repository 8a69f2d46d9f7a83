import { shellCommand } from '../../engines/postgres/service-process.ts';
import type { Column, TextRow } from '../../engines/postgres/sql/stream-statement.ts';
import type { Question, SqlHandlers } from '../../operations/sql/sql-context.ts';
import type { StatementReport } from '../../operations/sql/statement-report.ts';
import { printable } from '../render/page.ts';
import {
  drawOutlook,
  drawQuestion,
  drawRecovery,
  drawReport,
  drawRowCount,
  drawTable,
} from '../render/sql-page.ts';
import type { CommandRun } from '../run-command.ts';

const PLAIN_WIDTH = 80;
/** A long result is drawn in several tables, so that it is never held whole. */
const DRAWN_AT_ONCE = 1000;

/** Shows one statement, as text or as JSON lines (docs/json-output.md). */
export interface StatementDisplay {
  readonly handlers: SqlHandlers;
  finish(report: StatementReport): void;
}

export interface DisplayOptions {
  /** From 1, of the whole input. */
  readonly number: number;
  /** Null where there is nobody to ask. */
  readonly answerSeconds: number | null;
  /** Asks, when what is asked about has been shown. */
  readonly ask: (question: Question) => ReturnType<SqlHandlers['confirm']>;
}

/** Of a terminal; what goes into a file or a pipe is not cut. */
export function widthOf({ terminal }: CommandRun): number {
  const { isTTY, columns } = terminal.stdout;
  return isTTY === true ? columns || PLAIN_WIDTH : Number.POSITIVE_INFINITY;
}

export function createDisplay(run: CommandRun, options: DisplayOptions): StatementDisplay {
  return run.flags.json === true ? jsonDisplay(run, options) : textDisplay(run, options);
}

function textDisplay(run: CommandRun, options: DisplayOptions): StatementDisplay {
  let rows: TextRow[] = [];
  let drawn = 0;
  return {
    handlers: {
      onOutlook: outlook => {
        if (run.flags.quiet !== true) run.show(page => drawOutlook(page, outlook));
      },
      onNotice: ({ severity, message }) => run.show(page => page.line(`${severity}:  ${printable(message)}`)),
      onRows: async (portion, columns) => {
        rows.push(...portion);
        if (rows.length < DRAWN_AT_ONCE) return;
        const ready = rows;
        rows = [];
        drawn += ready.length;
        run.show(page => drawTable(page, columns, { rows: ready, width: widthOf(run) }));
      },
      onRecoveryPoint: lsn =>
        run.show(page => page.line(`Recovery point: log position ${lsn}, before the statement`)),
      onWarning: message => run.onEvent({ type: 'note', level: 'warning', message }),
      confirm: async question => {
        run.show(page => drawQuestion(page, question, options.answerSeconds));
        return await options.ask(question);
      },
    },
    finish: report =>
      run.show(page => {
        const { columns } = report;
        if (columns !== null && columns.length > 0) {
          if (rows.length > 0 || drawn === 0) drawTable(page, columns, { rows, width: widthOf(run) });
          drawRowCount(page, drawn + rows.length, report);
        }
        if (run.flags.quiet === true && report.outcome === 'done') return;
        drawReport(page, report);
        const commands = recoveryCommands(run, report);
        if (commands !== null) drawRecovery(page, commands);
      }),
  };
}

function jsonDisplay(run: CommandRun, { number, ask }: DisplayOptions): StatementDisplay {
  const facts = (topic: string, more: object): void =>
    run.onEvent({ type: 'facts', topic, facts: { statement: number, ...more } });
  return {
    handlers: {
      onOutlook: outlook => facts('outlook', outlook),
      onNotice: ({ severity, message }) =>
        run.onEvent({ type: 'note', level: severity === 'WARNING' ? 'warning' : 'info', message }),
      onRows: (rows, columns) => writeRows(run, { number, rows, names: distinctNames(columns) }),
      onRecoveryPoint: lsn => facts('recovery-point', { lsn }),
      onWarning: message => run.onEvent({ type: 'note', level: 'warning', message }),
      confirm: ask,
    },
    finish: report => {
      const commands = recoveryCommands(run, report);
      const columns = report.columns === null ? null : distinctNames(report.columns);
      facts('statement', { ...report, columns, ...(commands === null ? {} : { commands }) });
    },
  };
}

/** Rows as lines; waits when whoever reads them is slower than the server. */
async function writeRows(
  { terminal }: CommandRun,
  {
    number,
    rows,
    names,
  }: { readonly number: number; readonly rows: readonly TextRow[]; readonly names: readonly string[] },
): Promise<void> {
  const lines = rows.map(row => {
    const values = Object.fromEntries(names.map((name, index) => [name, row[index] ?? null]));
    return `${JSON.stringify({ type: 'row', statement: number, row: values })}\n`;
  });
  const { stdout } = terminal;
  if (stdout.write(lines.join(''))) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = (): void => {
    stdout.off('drain', done);
    stdout.off('close', done);
    stdout.off('error', done);
    resolve();
  };
  for (const event of ['drain', 'close', 'error']) stdout.once(event, done);
  await promise;
}

/** Two columns of one name are told apart: `count`, `count_2`. */
function distinctNames(columns: readonly Column[]): readonly string[] {
  const taken = new Set<string>();
  return columns.map(({ name }) => {
    let own = name;
    for (let number = 2; taken.has(own); number += 1) own = `${name}_${number}`;
    taken.add(own);
    return own;
  });
}

/** The commands that take a confirmed statement back, with what this one was called with. */
function recoveryCommands(
  { flags }: CommandRun,
  { outcome, recovery, tables }: StatementReport,
): { readonly undo: string | null; readonly restore: string } | null {
  if (outcome !== 'committed' || recovery === null) return null;
  const more = [
    ...(flags.instance === undefined ? [] : ['--instance', flags.instance]),
    ...(flags.config === undefined ? [] : ['--config', flags.config]),
  ];
  const command = (verb: string): string =>
    shellCommand(['aishell', 'backup', verb, '--xid', recovery.xid, ...more]);
  // Undo puts back what was destroyed; of a transaction's COMMIT it is not known what that was.
  const destroys =
    tables.length === 0 ||
    tables.some(
      each => each.deleted + each.updated > 0 || each.whole === 'dropped' || each.whole === 'emptied',
    );
  return { undo: destroys ? command('undo') : null, restore: command('restore') };
}
