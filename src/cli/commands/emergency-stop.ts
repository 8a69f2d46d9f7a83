import { type Command, Option } from 'commander';
import { exitCodes } from '../../base/codes.ts';
import { type StopLevel, stopLevels } from '../../operations/emergency/stop-record.ts';
import type { StopReport } from '../../operations/emergency/stop-report.ts';
import { addExamples, type Cli, nameOption } from '../cli.ts';
import { confirmPhrase } from '../confirm.ts';
import { openCommandEmergency } from '../open-emergency.ts';
import { drawStopPlan, drawStopped } from '../render/emergency-page.ts';
import type { CommandRun } from '../run-command.ts';

interface StopCommandOptions {
  readonly level?: StopLevel;
  readonly reason?: string;
  readonly dryRun?: boolean;
  readonly backup?: boolean;
  readonly loseUnlogged?: boolean;
}

/** `aishell emergency stop-writes` */
export function addEmergencyStop(cli: Cli, group: Command): void {
  const command = group
    .command('stop-writes')
    .description('stop the bleeding: nothing is written any more, and all of it can be put back')
    .addOption(
      new Option(
        '--level <level>',
        'soft: reads go on; hard: no connections; strict: recovery mode, for everybody (default: from the configuration, soft)',
      ).choices(stopLevels),
    )
    .option('--reason <text>', 'why, for colleagues and hooks', nameOption)
    .option('--backup', 'make a backup when writes are stopped')
    .option('--lose-unlogged', 'with --level strict: the restart may empty unlogged tables')
    .option('--dry-run', 'show what would be changed, change nothing');
  addExamples(command, [
    ['aishell emergency stop-writes', 'reads go on, ordinary writers are refused'],
    ['aishell emergency stop-writes --level hard --yes', 'nobody gets in, from a script'],
    [
      'aishell emergency stop-writes --level strict --reason "mass delete on users"',
      'not even superusers write',
    ],
    ['aishell emergency stop-writes --level strict --dry-run', 'what would be changed?'],
  ]).action((options: StopCommandOptions) =>
    cli.run(command, {
      title: '🚨 EMERGENCY: STOPPING WRITES',
      run: run => runStop(run, options),
      draw: drawStopped,
      exitCode: ({ problems }) => (problems.length === 0 ? 0 : exitCodes.FINISHED_WITH_PROBLEMS),
    }),
  );
}

async function runStop(run: CommandRun, options: StopCommandOptions): Promise<StopReport> {
  const [{ stopWrites }, context] = await Promise.all([
    import('../../operations/emergency/stop-writes.ts'),
    openCommandEmergency(run),
  ]);
  const request = {
    level: options.level ?? context.settings.level,
    reason: options.reason ?? null,
    dryRun: options.dryRun === true,
    backup: options.backup === true || context.settings.backup,
    loseUnlogged: options.loseUnlogged === true,
  };
  return await stopWrites(context, request, {
    signal: run.signal,
    onEvent: run.onEvent,
    async confirm(plan) {
      // Soft interrupts nobody who reads, and every second counts.
      if (plan.level === 'soft') return;
      run.show(page => drawStopPlan(page, plan));
      const question = `Type 'YES' to stop the writes of '${plan.instance}': `;
      await confirmPhrase(run, {
        phrase: 'YES',
        question,
        given: run.flags.yes === true ? 'YES' : null,
        flags: '--yes',
      });
    },
  });
}
