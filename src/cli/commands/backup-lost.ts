import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { exitCodes } from '../../base/codes.ts';
import { AppError } from '../../base/errors.ts';
import { parseMoment } from '../../base/moment.ts';
import type { InstanceContext } from '../../operations/instance-context.ts';
import type { LostReport } from '../../operations/lost/lost-report.ts';
import type { ExportFormat } from '../../operations/lost/read-rows.ts';
import type { RecoveryRequest } from '../../operations/restore/recovery-request.ts';
import { addExamples, type Cli, wholeNumber } from '../cli.ts';
import { openCommandInstance } from '../open-instance.ts';
import {
  givenTargets,
  type NamedIncident,
  parseRecoveryTarget,
  parseXid,
  type TargetOptions,
} from '../recovery-target.ts';
import { drawLost } from '../render/lost-page.ts';
import type { CommandRun } from '../run-command.ts';

interface LostOptions extends TargetOptions {
  readonly timeline?: number;
  readonly to?: string;
  readonly excludeXid?: readonly number[];
  readonly format: ExportFormat;
  readonly output?: string;
  readonly workDirectory?: string;
  readonly workers?: number;
  readonly dryRun?: boolean;
}

/** `aishell backup lost` */
export function addBackupLost(cli: Cli, group: Command): void {
  const command = group
    .command('lost')
    .description('export the rows that a recovery loses: what others committed behind its target')
    .option('--before-incident <id>', "behind the recovery to before an incident: its id, or 'latest'")
    .option('--point-in-time <time>', 'behind the recovery to a time, or "before the delete on users"')
    .option('--xid <transaction>', 'behind the recovery to just before a transaction')
    .option('--lsn <position>', 'behind the recovery to a position of the log')
    .option('--restore-point <name>', 'behind the recovery to a restore point')
    .option('--to <time>', 'only what was committed up to then; the end of the log unless given')
    .option(
      '--exclude-xid <transaction>',
      'a transaction of the disaster; those of the target and of incidents are known',
      (text: string, known: readonly number[] = []) => [...known, xidOption(text)],
    )
    .option(
      '--timeline <n>',
      'of the lost log: the one before a recovery that was made',
      wholeNumber(1, 0xffff_ffff),
    )
    .addOption(
      new Option('--format <format>', 'sql: statements; csv: a file for each table')
        .choices(['sql', 'csv'])
        .default('sql'),
    )
    .option('--output <directory>', 'where the files are written')
    .option(
      '--work-directory <directory>',
      'room for a copy meanwhile; beside the data directory unless given',
    )
    .option('--workers <n>', 'threads that fetch, decrypt and write', wholeNumber(1, 64))
    .option('--dry-run', 'only count, from the log');
  addExamples(command, [
    ['aishell backup lost --before-incident latest --output lost', 'as SQL, to read and then to run'],
    ['aishell backup lost --output lost', 'after a recovery to before an incident: what that has lost'],
    ['aishell backup lost --before-incident latest --format csv --output lost', 'to show to people'],
    ['aishell backup lost --point-in-time "2025-10-27 13:59:59" --dry-run', 'how much would it be?'],
    ['aishell backup lost --lsn 0/402A698 --timeline 1 --exclude-xid 786 --output lost', 'after a recovery'],
  ]).action((options: LostOptions) =>
    cli.run(command, {
      title: '🔄 Lost Rows',
      run: run => runLost(run, options),
      draw: drawLost,
      exitCode: ({ problems }) => (problems.length === 0 ? 0 : exitCodes.FINISHED_WITH_PROBLEMS),
    }),
  );
}

async function runLost(run: CommandRun, options: LostOptions): Promise<LostReport> {
  const now = new Date();
  const named = targetOf(options, now);
  if (options.output === undefined && options.dryRun !== true) {
    throw new AppError('USAGE', 'unable to export lost rows: no directory was given', {
      hint: 'Give one with --output DIR, or only count with --dry-run.',
    });
  }
  const toUs = options.to === undefined ? null : parseMoment(options.to, now);
  const [{ exportLost }, { incidentTarget }] = await Promise.all([
    import('../../operations/lost/export-lost.ts'),
    import('../../operations/restore/incident-target.ts'),
  ]);
  const context = await openCommandInstance(run, { workers: options.workers });
  const chosen = named ?? (await lastTarget(run, context));
  const target =
    chosen.kind === 'named incident' ? await incidentTarget(context, chosen.id, run.signal) : chosen;
  const { cwd } = run.terminal;
  const { workDirectory } = options;
  return await exportLost(
    context,
    {
      target,
      timeline: options.timeline ?? null,
      toUs,
      excluded: options.excludeXid ?? [],
      format: options.format,
      output: resolve(cwd, options.output ?? '.'),
      workDirectory: workDirectory === undefined ? null : resolve(cwd, workDirectory),
      dryRun: options.dryRun === true,
    },
    { signal: run.signal, onEvent: run.onEvent },
  );
}

/** Null: none was given. @throws USAGE several, or not understood; TIME_AMBIGUOUS */
function targetOf(options: LostOptions, now: Date): RecoveryRequest | NamedIncident | null {
  const given = givenTargets(options);
  if (given.length === 0) return null;
  if (given.length === 1) return parseRecoveryTarget(options, now);
  throw new AppError('USAGE', `unable to export lost rows: ${given.join(' and ')} cannot go together`, {
    hint: `Give one of ${TARGETS}.`,
  });
}

const TARGETS =
  '--before-incident ID, --point-in-time TIME, --xid TRANSACTION, --lsn POSITION, --restore-point NAME';

/** What the last recovery has lost. @throws USAGE when none is on record */
async function lastTarget(run: CommandRun, context: InstanceContext): Promise<NamedIncident> {
  const { lastRecovered } = await import('../../operations/lost/last-recovery.ts');
  const incident = await lastRecovered(context, run.signal);
  if (incident === null) {
    throw new AppError('USAGE', 'unable to export lost rows: it is not said behind which recovery', {
      hint: `No recovery to before an incident is on record. Give where one goes back to: ${TARGETS}. \`aishell incident list\` and \`aishell backup timeline\` show what there is; after a recovery its report names the command.`,
    });
  }
  const message = `Behind the last recovery on record, to just before incident ${incident.id}.`;
  run.onEvent({ type: 'note', level: 'info', message });
  return { kind: 'named incident', id: incident.id };
}

function xidOption(text: string): number {
  try {
    return parseXid(text);
  } catch {
    throw new InvalidArgumentError('It must be the number of a transaction.');
  }
}
