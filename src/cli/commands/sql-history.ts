import type { Command } from 'commander';
import { AppError } from '../../base/errors.ts';
import type { HistoryEntry } from '../../operations/sql/statement-history.ts';
import { addExamples, type Cli, wholeNumber } from '../cli.ts';
import { drawHistory } from '../render/sql-page.ts';
import type { CommandRun } from '../run-command.ts';
import { widthOf } from '../sql/statement-display.ts';

interface HistoryResult {
  readonly entries: readonly HistoryEntry[];
}

/** `aishell sql history` */
export function addSqlHistory(cli: Cli, group: Command): void {
  let width = Number.POSITIVE_INFINITY;
  const command = group
    .command('history')
    .description('statements that `aishell sql` has run on this machine: who, when, what became of them')
    .option('--last <n>', 'show so many', wholeNumber(1, 100_000), 50);
  addExamples(command, [
    ['aishell sql history', 'the last 50 statements'],
    ['aishell sql history --last 1000 --json', 'for a script'],
  ]).action((options: { readonly last: number }) =>
    cli.run(command, {
      title: '📜 Statements',
      run: run => {
        width = widthOf(run);
        return readHistory(run, options.last);
      },
      draw: (page, { entries }) => drawHistory(page, entries, width),
    }),
  );
}

async function readHistory({ terminal, flags }: CommandRun, limit: number): Promise<HistoryResult> {
  const [{ sqlStateDirectory }, { readStatementHistory }] = await Promise.all([
    import('../../app/open-sql.ts'),
    import('../../operations/sql/statement-history.ts'),
  ]);
  const directory = sqlStateDirectory(terminal.env);
  if (directory === null)
    throw new AppError('FILE_FAILED', 'unable to find the history: this user has no home directory');
  return { entries: await readStatementHistory(directory, { instance: flags.instance ?? null, limit }) };
}
