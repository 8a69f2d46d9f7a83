import { AppError } from '../../base/errors.ts';
import type { SqlConsole } from '../../operations/sql/sql-console.ts';
import type { SqlContext } from '../../operations/sql/sql-context.ts';
import { readStatementHistory } from '../../operations/sql/statement-history.ts';
import { drawDescription, drawHistory } from '../render/sql-page.ts';
import type { CommandRun } from '../run-command.ts';
import { widthOf } from './statement-display.ts';

/** What a person can switch while the console runs. */
export interface ConsoleSwitches {
  dryRun: boolean;
  timing: boolean;
}

interface MetaContext {
  readonly run: CommandRun;
  readonly opened: SqlConsole;
  readonly context: SqlContext;
  readonly switches: ConsoleSwitches;
}

const HISTORY_ENTRIES = 20;

const help: readonly (readonly [command: string, does: string])[] = [
  ['\\q', 'leave'],
  ['\\d [table]', 'the tables, or one of them'],
  ['\\dry-run on|off', 'run everything in transactions that are rolled back'],
  ['\\history [n]', 'statements that were run, with what became of them'],
  ['\\timing', 'show how long statements take, or no longer'],
  ['Ctrl-C', 'cancel what runs, or forget what is typed'],
];

export function isMetaCommand(line: string): boolean {
  return line.trimStart().startsWith('\\') || /^\s*(quit|exit)\s*;?\s*$/i.test(line);
}

/** Does what a line with a backslash asks for. False: the console is to be left. @throws USAGE, and what the server says */
export async function runMetaCommand(line: string, meta: MetaContext): Promise<boolean> {
  const { run, opened, context, switches } = meta;
  const [command = '', ...words] = line.trim().replace(/;$/, '').split(/\s+/);
  const [argument] = words;
  switch (command.toLowerCase()) {
    case '\\q':
    case 'quit':
    case 'exit':
      return false;
    case '\\?':
      run.show(page => {
        for (const [name, does] of help) page.line(`  ${name.padEnd(18)} ${page.style.dim(does)}`);
        page.line(
          page.style.dim(
            '  A statement ends with a semicolon. docs/sql.md says what is asked about, and why.',
          ),
        );
      });
      return true;
    case '\\d': {
      const description = await opened.describe(argument === undefined ? null : words.join(' '));
      run.show(page => drawDescription(page, description, widthOf(run)));
      return true;
    }
    case '\\timing':
      switches.timing = argument === undefined ? !switches.timing : argument === 'on';
      say(run, `Timing is ${switches.timing ? 'on' : 'off'}.`);
      return true;
    case '\\dry-run':
      switchDryRun(meta, argument);
      return true;
    case '\\history': {
      const limit = /^\d{1,5}$/.test(argument ?? '') ? Number(argument) : HISTORY_ENTRIES;
      const { historyDirectory, instance } = context;
      const entries =
        historyDirectory === null ? [] : await readStatementHistory(historyDirectory, { instance, limit });
      run.show(page => drawHistory(page, entries, widthOf(run)));
      return true;
    }
    default:
      throw new AppError('USAGE', `unable to understand ${command}`, { hint: '\\? lists what there is.' });
  }
}

function switchDryRun({ run, opened, switches }: MetaContext, argument: string | undefined): void {
  if (argument !== 'on' && argument !== 'off')
    throw new AppError('USAGE', 'unable to switch: write \\dry-run on, or \\dry-run off');
  if (opened.transaction !== 'none') {
    throw new AppError('USAGE', 'unable to switch inside a transaction', {
      hint: 'End it with COMMIT or ROLLBACK first: what was run before would otherwise share its fate.',
    });
  }
  switches.dryRun = argument === 'on';
  say(
    run,
    switches.dryRun
      ? 'Everything is rolled back from now on; only numbers that sequences give out stay given out.'
      : 'Statements are committed again.',
  );
}

function say(run: CommandRun, text: string): void {
  run.show(page => page.line(text));
}
