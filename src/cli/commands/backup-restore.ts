import { resolve } from 'node:path';
import type { Command } from 'commander';
import { exitCodes } from '../../base/codes.ts';
import type { RestoreReport } from '../../operations/restore/restore-report.ts';
import { addExamples, type Cli, wholeNumber } from '../cli.ts';
import { confirmReady, confirmRestore } from '../confirm-restore.ts';
import { openCommandInstance } from '../open-instance.ts';
import { parseRecoveryTarget, type TargetOptions } from '../recovery-target.ts';
import { drawRestored, drawRestorePlan, drawRestoreWarning } from '../render/restore-page.ts';
import type { CommandRun } from '../run-command.ts';

interface RestoreCommandOptions extends TargetOptions {
  readonly timeline?: number;
  readonly target?: string;
  readonly workers?: number;
  readonly dryRun?: boolean;
  readonly confirm?: string;
}

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
    .option('--timeline <n>', 'of the log; the newest unless given', wholeNumber(1, 0xffff_ffff))
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
    ['aishell backup restore --latest --dry-run', 'what would be done?'],
    [
      'aishell backup restore --latest --target /mnt/large-disk/copy',
      'a copy beside, the instance is left alone',
    ],
    ['aishell backup restore --latest --confirm "restore production" --yes', 'from a script'],
  ]).action((options: RestoreCommandOptions) =>
    cli.run(command, {
      title: options.pointInTime === undefined ? '🔄 Restoring Database' : '⏰ Point-in-Time Recovery',
      run: run => runRestore(run, options),
      draw: drawRestored,
      exitCode: ({ problems }) => (problems.length === 0 ? 0 : exitCodes.FINISHED_WITH_PROBLEMS),
    }),
  );
}

async function runRestore(run: CommandRun, options: RestoreCommandOptions): Promise<RestoreReport> {
  const target = parseRecoveryTarget(options, new Date());
  const { restore } = await import('../../operations/restore/restore.ts');
  const context = await openCommandInstance(run, { workers: options.workers });
  const request = {
    target,
    directory: options.target === undefined ? null : resolve(run.terminal.cwd, options.target),
    timeline: options.timeline ?? null,
    dryRun: options.dryRun === true,
  };
  const report = await restore(context, request, {
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
  });
  if (report.dryRun) run.show(page => drawRestorePlan(page, report, new Date()));
  return report;
}
