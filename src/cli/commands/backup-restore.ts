import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { exitCodes } from '../../base/codes.ts';
import { AppError } from '../../base/errors.ts';
import type { InstanceContext } from '../../operations/instance-context.ts';
import type { LostReport } from '../../operations/lost/lost-report.ts';
import type { ExportFormat } from '../../operations/lost/read-rows.ts';
import type { RestoreReport } from '../../operations/restore/restore-report.ts';
import type { RestoreOptions } from '../../operations/restore/restore-request.ts';
import type { GoBackReport } from '../../operations/rewind/go-back.ts';
import { addExamples, type Cli, wholeNumber } from '../cli.ts';
import { confirmReady, confirmRestore } from '../confirm-restore.ts';
import { openCommandInstance, openGoBackContext } from '../open-instance.ts';
import { parseRecoveryTarget, type TargetOptions } from '../recovery-target.ts';
import { drawGoBackWarning, drawWentBack } from '../render/go-back-page.ts';
import { drawLost } from '../render/lost-page.ts';
import { drawOpened, drawRestored, drawRestorePlan, drawRestoreWarning } from '../render/restore-page.ts';
import type { CommandRun } from '../run-command.ts';
import { drawWritesStopped, writesAreStopped } from '../writes-stopped.ts';

interface RestoreCommandOptions extends TargetOptions {
  readonly timeline?: number;
  readonly target?: string;
  readonly workers?: number;
  readonly dryRun?: boolean;
  readonly confirm?: string;
  readonly rewind?: boolean;
  readonly full?: boolean;
  readonly verifyBeforeOpen?: boolean;
  readonly resume?: boolean;
  readonly goBack?: string;
  readonly exportLost?: string;
  readonly exportFormat: ExportFormat;
}

/** What was done, and what was exported of what is lost with it. */
type RestoreResult = RestoreReport & { readonly exportedLost: LostReport | null };

/** `aishell backup restore` */
export function addBackupRestore(cli: Cli, group: Command): void {
  const command = group
    .command('restore')
    .description('bring the instance back to a moment, in place or into another directory')
    .option('--latest', 'to the end of the archived log')
    .option('--backup-id <id>', 'to a backup as it was at its end: its id, the end of it, or its name')
    .option(
      '--point-in-time <time>',
      'to a time: "2025-10-27 13:59:59" (UTC), "14:00", "10 minutes ago", "before the delete on users"',
    )
    .option('--lsn <position>', 'to a position of the log')
    .option('--xid <transaction>', 'to just before a transaction')
    .option('--after', 'with --xid: to just after it')
    .option('--restore-point <name>', 'to where pg_create_restore_point() was called')
    .option('--before-incident <id>', "to just before an incident: its id, the end of it, or 'latest'")
    .option('--timeline <n>', 'of the log; the newest unless given', wholeNumber(1, 0xffff_ffff))
    .option(
      '--rewind',
      'in place: rewrite only what has changed since the backup; refused where that is not possible',
    )
    .option('--full', 'in place: restore all of the backup beside the present state, then exchange the two')
    .option('--verify-before-open', 'after a rewind: check everything before it is open instead of after')
    .option('--resume', 'finish a rewind that was cut off')
    .option('--go-back <directory>', 'undo a rewind: bring back the state in its safety copy')
    .option(
      '--export-lost <directory>',
      'then write the rows that are lost with it there, as `backup lost` does',
    )
    .addOption(
      new Option('--export-format <format>', 'of these: statements, or a file for each table')
        .choices(['sql', 'csv'])
        .default('sql'),
    )
    .option('--target <directory>', 'into a new or empty directory instead of in place')
    .option('--workers <n>', 'threads that fetch, decrypt and write', wholeNumber(1, 64))
    .option('--dry-run', 'show the plan, change nothing')
    .option('--confirm <phrase>', 'for scripts: "restore <instance>", with --yes');
  addExamples(command, [
    ['aishell backup restore --point-in-time "2025-10-27 13:59:59"', 'to a second before the disaster'],
    [
      'aishell backup restore --point-in-time "before the delete on users" --dry-run',
      'find the transaction, show the plan',
    ],
    [
      'aishell backup restore --before-incident latest --export-lost lost',
      'to just before the last incident on record; what else is lost with it as SQL',
    ],
    ['aishell backup restore --latest --dry-run', 'what would be done?'],
    [
      'aishell backup restore --latest --target /mnt/large-disk/copy',
      'a copy beside, the instance is left alone',
    ],
    ['aishell backup restore --latest --confirm "restore production" --yes', 'from a script'],
    [
      'aishell backup restore --go-back /var/lib/postgresql/18/main.aishell-safety-20251027_141845',
      'undo a rewind',
    ],
  ]).action((options: RestoreCommandOptions) =>
    options.goBack === undefined
      ? cli.run(command, {
          title: options.pointInTime === undefined ? '🔄 Restoring Database' : '⏰ Point-in-Time Recovery',
          drawFacts: { open: drawOpened },
          async run(run) {
            const result = await runRestore(run, options);
            const isLive = !result.dryRun && result.mode === 'in-place';
            return { ...result, writesStopped: isLive && (await writesAreStopped(run)) };
          },
          draw: (page, result) => {
            drawRestored(page, result);
            if (result.exportedLost !== null) drawLost(page, result.exportedLost);
            drawWritesStopped(page, result.writesStopped);
          },
          exitCode: ({ problems, exportedLost }) =>
            problems.length + (exportedLost?.problems.length ?? 0) === 0
              ? 0
              : exitCodes.FINISHED_WITH_PROBLEMS,
        })
      : cli.run(command, {
          title: '↩️  Going Back',
          run: run => runGoBack(run, { ...options, safety: options.goBack ?? '' }),
          draw: drawWentBack,
        }),
  );
}

async function runRestore(run: CommandRun, options: RestoreCommandOptions): Promise<RestoreResult> {
  refuseContradictions(options);
  const named = options.resume === true ? null : parseRecoveryTarget(options, new Date());
  const [{ restore, resumeRestore }, { incidentTarget }] = await Promise.all([
    import('../../operations/restore/restore.ts'),
    import('../../operations/restore/incident-target.ts'),
  ]);
  const context = await openCommandInstance(run, { workers: options.workers });
  const target =
    named?.kind === 'named incident' ? await incidentTarget(context, named.id, run.signal) : named;
  const common = {
    dryRun: options.dryRun === true,
    verifyBeforeOpen: options.verifyBeforeOpen === true,
  };
  const restoreOptions = restoreOptionsOf(run, options);
  if (options.exportLost !== undefined) {
    const { checkOutputDirectory } = await import('../../operations/lost/output-directory.ts');
    await checkOutputDirectory(resolve(run.terminal.cwd, options.exportLost));
  }
  const report =
    target === null
      ? await resumeRestore(context, common, restoreOptions)
      : await restore(
          context,
          {
            ...common,
            target,
            directory: options.target === undefined ? null : resolve(run.terminal.cwd, options.target),
            timeline: options.timeline ?? null,
            way: options.rewind === true ? 'rewind' : options.full === true ? 'full' : 'auto',
          },
          restoreOptions,
        );
  if (report.dryRun) run.show(page => drawRestorePlan(page, report, new Date()));
  return await withLost(run, { context, report, options });
}

/** The instance is open by now: what cannot be exported is a problem, with the command that tries it again. */
async function withLost(
  run: CommandRun,
  done: {
    readonly context: InstanceContext;
    readonly report: RestoreReport;
    readonly options: RestoreCommandOptions;
  },
): Promise<RestoreResult> {
  const { context, report, options } = done;
  if (options.exportLost === undefined || report.dryRun) return { ...report, exportedLost: null };
  const { exportLostOf } = await import('../../operations/lost/export-lost-of.ts');
  const output = resolve(run.terminal.cwd, options.exportLost);
  const request = { output, format: options.exportFormat };
  const { exported, problems } = await exportLostOf(context, report, request, {
    signal: run.signal,
    onEvent: run.onEvent,
  });
  return { ...report, exportedLost: exported, problems: [...report.problems, ...problems] };
}

function restoreOptionsOf(run: CommandRun, options: RestoreCommandOptions): RestoreOptions {
  return {
    signal: run.signal,
    onEvent: run.onEvent,
    async confirm(question, plan) {
      if (question === 'ready') return await confirmReady(run);
      run.show(page => {
        drawRestorePlan(page, plan, new Date());
        drawRestoreWarning(page, plan, new Date());
      });
      await confirmRestore(run, { instance: plan.instance, confirm: options.confirm });
    },
  };
}

function refuseContradictions(options: RestoreCommandOptions): void {
  const inPlaceOnly = options.rewind ?? options.full ?? options.resume ?? options.verifyBeforeOpen;
  const pairs = [
    [
      options.exportLost !== undefined &&
        (options.latest === true || options.resume === true || options.backupId !== undefined),
      '--export-lost needs a target before the end of the log',
    ],
    [options.rewind === true && options.full === true, '--rewind and --full exclude each other'],
    [inPlaceOnly === true && options.target !== undefined, 'a rewind is made in place, without --target'],
    [
      options.full === true && options.verifyBeforeOpen === true,
      '--verify-before-open is for a rewind: a full restore is always verified before it is opened',
    ],
  ] as const;
  for (const [isGiven, message] of pairs)
    if (isGiven) throw new AppError('USAGE', `unable to plan a restore: ${message}`);
}

async function runGoBack(
  run: CommandRun,
  options: RestoreCommandOptions & { readonly safety: string },
): Promise<GoBackReport> {
  const [{ goBack }, context] = await Promise.all([
    import('../../operations/rewind/go-back.ts'),
    openGoBackContext(run, { workers: options.workers }),
  ]);
  return await goBack(context, resolve(run.terminal.cwd, options.safety), {
    signal: run.signal,
    onEvent: run.onEvent,
    async confirm(facts) {
      run.show(page => drawGoBackWarning(page, facts));
      await confirmRestore(run, { instance: facts.instance, confirm: options.confirm });
      await confirmReady(run);
    },
  });
}
