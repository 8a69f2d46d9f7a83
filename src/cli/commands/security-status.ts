import type { Command } from 'commander';
import { exitCodes } from '../../base/codes.ts';
import { addExamples, type Cli } from '../cli.ts';
import { openHardening } from '../open-hardening.ts';
import { drawHardening } from '../render/harden-page.ts';

/** `aishell security status` */
export function addSecurityStatus(cli: Cli, group: Command): void {
  const command = group
    .command('status')
    .description('which measures are in force, and has somebody changed them since?')
    .option('--database <name>', "which database (default: that of the instance's connection)");
  addExamples(command, [
    ['aishell security status --database shop', 'how is this database protected?'],
  ]).action((options: { readonly database?: string }) =>
    cli.run(command, {
      title: '🛡️  Protection against accidents',
      async run(run) {
        const [{ readHardening }, context] = await Promise.all([
          import('../../operations/harden/read-hardening.ts'),
          openHardening(run),
        ]);
        return await readHardening(context, { database: options.database ?? null }, { signal: run.signal });
      },
      draw: drawHardening,
      exitCode: ({ problems }) => (problems.length === 0 ? 0 : exitCodes.FINISHED_WITH_PROBLEMS),
    }),
  );
}
