import type { Command } from 'commander';
import { exitCodes } from '../../base/codes.ts';
import { addExamples, type Cli } from '../cli.ts';
import { openCommandEmergency } from '../open-emergency.ts';
import { drawResumed } from '../render/emergency-page.ts';

/** `aishell emergency resume-writes` */
export function addEmergencyResume(cli: Cli, group: Command): void {
  const command = group
    .command('resume-writes')
    .description('put back everything that stopping writes has changed');
  addExamples(command, [
    ['aishell emergency resume-writes', 'also after a stop that was cut short, or made on another machine'],
  ]).action(() =>
    cli.run(command, {
      title: '🟢 RESUMING WRITES',
      async run(run) {
        const [{ resumeWrites }, context] = await Promise.all([
          import('../../operations/emergency/resume-writes.ts'),
          openCommandEmergency(run),
        ]);
        return await resumeWrites(context, { signal: run.signal, onEvent: run.onEvent });
      },
      draw: drawResumed,
      exitCode: ({ problems }) => (problems.length === 0 ? 0 : exitCodes.FINISHED_WITH_PROBLEMS),
    }),
  );
}
