import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { exitCodes } from '../../base/codes.ts';
import { AppError } from '../../base/errors.ts';
import { parseDescribedChange } from '../../operations/timeline/described-change.ts';
import type { UndoReport } from '../../operations/undo/undo-report.ts';
import type { UndoRequest, UndoWhat } from '../../operations/undo/undo-request.ts';
import { addExamples, type Cli, wholeNumber } from '../cli.ts';
import { confirmPhrase } from '../confirm.ts';
import { openCommandInstance } from '../open-instance.ts';
import { drawUndone, drawUndoPlan } from '../render/undo-page.ts';
import type { CommandRun } from '../run-command.ts';
import { drawWritesStopped, writesAreStopped } from '../writes-stopped.ts';

interface UndoCommandOptions {
  readonly xid?: number;
  readonly change?: string;
  readonly tables?: string;
  readonly from: UndoRequest['from'];
  readonly scratch?: string;
  readonly batch: number;
  readonly workers?: number;
  readonly dryRun?: boolean;
}

/** `aishell backup undo` */
export function addBackupUndo(cli: Cli, group: Command): void {
  const command = group
    .command('undo')
    .description(
      'put back the rows that one transaction destroyed; the instance stays open, later writes stay',
    )
    .argument('[incident]', 'an incident: its id, the end of it, or `latest`')
    .option('--xid <transaction>', 'a transaction, by its number', wholeNumber(3, 0xffff_ffff))
    .option('--change <description>', 'a transaction, by what it did: "the delete on users"')
    .option('--tables <names>', 'only these tables, separated by commas')
    .addOption(
      new Option('--from <source>', 'where the rows come from')
        .choices(['auto', 'snapshot', 'backup'])
        .default('auto'),
    )
    .option('--scratch <directory>', 'where a backup is restored to read from it (default: beside the data)')
    .option('--batch <rows>', 'rows that are put back in one transaction', wholeNumber(1, 10_000_000), 50_000)
    .option('--workers <n>', 'threads that fetch, decrypt and write', wholeNumber(1, 64))
    .option('--dry-run', 'show what would be put back and what not, change nothing');
  addExamples(command, [
    ['aishell backup undo latest', 'what the last incident destroyed'],
    ['aishell backup undo latest --dry-run', 'what would be put back?'],
    ['aishell backup undo --change "the delete on users"', 'find the transaction by what it did'],
    [
      'aishell backup undo --xid 12345 --tables users,orders --yes',
      'two tables of a transaction, from a script',
    ],
  ]).action((incident: string | undefined, options: UndoCommandOptions) =>
    cli.run(command, {
      title: '↩️  Undoing a Transaction',
      async run(run) {
        const report = await runUndo(run, incident, options);
        return { ...report, writesStopped: !report.dryRun && (await writesAreStopped(run)) };
      },
      draw: (page, result) => {
        drawUndone(page, result);
        drawWritesStopped(page, result.writesStopped);
      },
      exitCode: ({ dryRun, problems }) =>
        dryRun || problems.length === 0 ? 0 : exitCodes.FINISHED_WITH_PROBLEMS,
    }),
  );
}

async function runUndo(
  run: CommandRun,
  incident: string | undefined,
  options: UndoCommandOptions,
): Promise<UndoReport> {
  const request: UndoRequest = {
    what: whatOf(incident, options),
    tables: tablesOf(options.tables),
    from: options.from,
    scratch: options.scratch === undefined ? null : resolve(run.terminal.cwd, options.scratch),
    batchRows: options.batch,
    dryRun: options.dryRun === true,
  };
  const [{ undo }, context] = await Promise.all([
    import('../../operations/undo/undo.ts'),
    openCommandInstance(run, { workers: options.workers }),
  ]);
  return await undo(context, request, {
    signal: run.signal,
    onEvent: run.onEvent,
    async confirm(found) {
      run.show(page => drawUndoPlan(page, found));
      const phrase = `undo ${found.instance}`;
      const question = `Type '${phrase}' to put these rows back:\n> `;
      await confirmPhrase(run, {
        phrase,
        question,
        given: run.flags.yes === true ? phrase : null,
        flags: '--yes',
      });
    },
  });
}

function whatOf(incident: string | undefined, options: UndoCommandOptions): UndoWhat {
  const given = [incident, options.xid, options.change].filter(each => each !== undefined).length;
  if (given !== 1) {
    const why = given === 0 ? 'it is not said which' : 'it is said in several ways which';
    throw new AppError('USAGE', `unable to undo a transaction: ${why}`, {
      hint: 'Give one of: an incident (`latest` is the last one), --xid NUMBER, --change "the delete on users". `aishell backup timeline` shows transactions.',
    });
  }
  if (incident !== undefined) return { kind: 'incident', id: incident };
  if (options.xid !== undefined) return { kind: 'xid', xid: options.xid };
  const text = (options.change ?? '').trim();
  // A target of a restore lies before or after a change; here it is the change itself.
  const change = parseDescribedChange(
    /^(just |right )?(before|after)\b/i.test(text) ? text : `before ${text}`,
  );
  if (change === null || change.after || change.change === 'insert') {
    throw new AppError('USAGE', `unable to undo '${text}': it does not describe what destroys rows`, {
      hint: 'Write it like "the delete on users", with one of delete, update, truncate, drop.',
    });
  }
  return { kind: 'change', change };
}

function tablesOf(text: string | undefined): readonly string[] | null {
  if (text === undefined) return null;
  // A comma within quotes is part of a name.
  const names = (text.match(/(?:"(?:[^"]|"")*"|[^,"])+/g) ?? [])
    .map(name => name.trim())
    .filter(name => name !== '');
  if (names.length > 0) return names;
  throw new AppError('USAGE', 'unable to undo a transaction: --tables names none');
}
