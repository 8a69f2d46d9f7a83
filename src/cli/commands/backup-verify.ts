import type { Command } from 'commander';
import { exitCodes } from '../../base/codes.ts';
import { AppError } from '../../base/errors.ts';
import { counted, formatBytes } from '../../base/sizes.ts';
import type { VerifyReport } from '../../operations/verify/verify-backups.ts';
import { addExamples, type Cli } from '../cli.ts';
import { openCommandInstance } from '../open-instance.ts';
import type { Page } from '../render/page.ts';

/** `aishell backup verify --backup-id ID | --all` */
export function addBackupVerify(cli: Cli, group: Command): void {
  const command = group
    .command('verify')
    .description('read every byte of backups, log and keys, and compare it with its checksum')
    .option('--backup-id <id>', 'one backup: its id, the last characters of it, or its name')
    .option('--all', 'all backups, the whole log, all key slots');
  addExamples(command, [
    ['aishell backup verify --all', 'is everything as it was written?'],
    ['aishell backup verify --backup-id abc123', 'one backup'],
  ]).action((options: { readonly backupId?: string; readonly all?: boolean }) =>
    cli.run(command, {
      title: '🔍 Verifying Backups',
      async run(run) {
        if ((options.backupId === undefined) === (options.all !== true)) {
          throw new AppError('USAGE', 'unable to tell what to verify', {
            hint: 'Give either --backup-id ID or --all.',
          });
        }
        const { verifyBackups } = await import('../../operations/verify/verify-backups.ts');
        const context = await openCommandInstance(run);
        return await verifyBackups(
          context,
          { backupId: options.backupId ?? null },
          { signal: run.signal, onEvent: run.onEvent },
        );
      },
      draw: drawVerification,
      exitCode: ({ problems, logGaps }) =>
        problems.length > 0
          ? exitCodes.VERIFICATION_FAILED
          : logGaps.length > 0
            ? exitCodes.FINISHED_WITH_PROBLEMS
            : 0,
    }),
  );
}

function drawVerification(page: Page, report: VerifyReport): void {
  const bytes = report.backups.reduce((sum, backup) => sum + backup.bytes, 0);
  const what = `${counted(report.backups.length, 'backup')} (${formatBytes(bytes)})`;
  const beside =
    report.keySlots === 0
      ? ''
      : `, ${counted(report.logFiles, 'log file')}, ${counted(report.keySlots, 'key slot')}`;
  page.line();
  if (report.problems.length === 0) {
    page.line(page.style.good(`✅ Everything is as it was written: ${what}${beside}`));
  } else {
    page.line(page.style.bad(`✗ ${counted(report.problems.length, 'problem')} in ${what}${beside}`));
    page.section(
      'Damaged',
      report.problems.map(problem => `${problem.message}\n      affects: ${problem.affects}`),
    );
    const whole = report.backups.filter(backup => !backup.damaged).map(backup => backup.id);
    page.section('Backups that are whole', whole.length === 0 ? ['none'] : whole);
  }
  const [gap] = report.logGaps;
  if (gap !== undefined) {
    page.line();
    page.line(
      page.style.warn(
        `⚠️  The log has gaps: ${counted(report.logGaps.length, 'segment')} missing, ${gap} first. Points in time behind a gap need a backup that was taken after it.`,
      ),
    );
  }
}
