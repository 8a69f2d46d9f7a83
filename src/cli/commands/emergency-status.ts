import type { Command } from 'commander';
import { exitCodes } from '../../base/codes.ts';
import { addExamples, type Cli } from '../cli.ts';
import { openCommandEmergency } from '../open-emergency.ts';
import { drawEmergencyStatus } from '../render/emergency-page.ts';

/** `aishell emergency status` */
export function addEmergencyStatus(cli: Cli, group: Command): void {
  const command = group
    .command('status')
    .description('are writes stopped, since when, and is it still in effect?');
  addExamples(command, [['aishell emergency status --json', 'for scripts']]).action(() =>
    cli.run(command, {
      async run(run) {
        const [{ emergencyStatus }, context] = await Promise.all([
          import('../../operations/emergency/emergency-status.ts'),
          openCommandEmergency(run),
        ]);
        return await emergencyStatus(context, { signal: run.signal });
      },
      draw: drawEmergencyStatus,
      exitCode: ({ problems }) => (problems.length === 0 ? 0 : exitCodes.FINISHED_WITH_PROBLEMS),
    }),
  );
}
