import type { Command } from 'commander';
import { exitCodes } from '../../base/codes.ts';
import { formatBytes, formatSeconds } from '../../base/sizes.ts';
import type { RecoveryOutlook } from '../../operations/recovery-time/recovery-outlook.ts';
import { addExamples, type Cli } from '../cli.ts';
import { openCommandInstance } from '../open-instance.ts';
import type { Page } from '../render/page.ts';
import { formatTime } from '../render/time.ts';

/** `aishell backup health` */
export function addBackupHealth(cli: Cli, group: Command): void {
  const command = group
    .command('health')
    .description('how long a recovery would take now, beside how long it may');
  addExamples(command, [
    ['aishell backup health', 'is the recovery time objective kept?'],
    ['aishell backup health --json', 'the same for a monitoring system; exit code 3 when it is not'],
  ]).action(() =>
    cli.run(command, {
      title: '🩹 Recovery Time',
      async run(run) {
        const { recoveryOutlook } = await import('../../operations/recovery-time/recovery-outlook.ts');
        return await recoveryOutlook(await openCommandInstance(run), run.signal);
      },
      draw: drawOutlook,
      exitCode: outlook =>
        outlook.state === 'passed' || outlook.estimate === null ? exitCodes.FINISHED_WITH_PROBLEMS : 0,
    }),
  );
}

/** Estimate and objective, what the estimate is made of, and how sure it is. */
export function drawOutlook(page: Page, outlook: RecoveryOutlook): void {
  const { estimate, objectiveSeconds } = outlook;
  if (estimate === null) {
    page.line(
      page.style.bad(`✗ There is no backup of instance '${outlook.instance}': it cannot be recovered.`),
    );
    page.line("Run 'aishell backup create' to make one.");
    return;
  }
  page.table(
    ['Recovery', 'Estimate', 'Objective', 'State'],
    [
      [
        estimate.method === 'rewind' ? 'In place, only what changed' : 'In place, everything',
        formatSeconds(estimate.seconds),
        objectiveSeconds === null ? '-' : formatSeconds(objectiveSeconds),
        stateCell(page, outlook),
      ],
      ['The server is lost', formatSeconds(estimate.lostServerSeconds), '-', '-'],
    ],
  );
  const { parts } = estimate;
  page.section('What it is made of', [
    ['Planning, stopping, starting', formatSeconds(parts.fixedSeconds)],
    ['Restoring files', parts.restoreSeconds === 0 ? null : formatSeconds(parts.restoreSeconds)],
    ['Writing back changed pages', estimate.method === 'rewind' ? formatSeconds(parts.rewriteSeconds) : null],
    [
      'Replaying the log',
      `${formatSeconds(parts.replaySeconds)} (${formatBytes(estimate.logBytes)} since backup ${estimate.backup.id})`,
    ],
    ['Everything is restored, because', estimate.whyNotRewind],
  ]);
  page.line();
  page.line(confidenceLine(outlook));
  if (outlook.state === 'passed') {
    const helps = estimate.floorSeconds <= (objectiveSeconds ?? 0);
    page.line(
      helps
        ? `→ 'aishell backup create --type incremental' brings it down to about ${formatSeconds(estimate.floorSeconds)}.`
        : `→ No backup can bring it below ${formatSeconds(estimate.floorSeconds)}: the objective is out of this machine's reach.`,
    );
  }
}

function stateCell(page: Page, { state }: RecoveryOutlook): string {
  if (state === 'unknown') return 'no objective';
  return state === 'kept' ? page.style.good('✓ kept') : page.style.bad('✗ passed');
}

function confidenceLine({ estimate, measuredAt }: RecoveryOutlook): string {
  if (measuredAt === null || estimate?.confidence === 'guessed')
    return 'These are careful guesses: this machine has not recovered the instance yet.';
  const last = `last on ${formatTime(measuredAt)}`;
  return estimate?.confidence === 'measured'
    ? `By the speeds measured on this machine, ${last}.`
    : `Partly by speeds measured on this machine, ${last}; the others are careful guesses.`;
}
