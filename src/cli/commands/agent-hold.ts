import type { Command } from 'commander';
import { addExamples, type Cli, wholeNumber } from '../cli.ts';
import type { CommandRun } from '../run-command.ts';

interface HoldOptions {
  readonly incident: string;
  readonly database: string;
  readonly snapshot: string;
  readonly until: string;
  readonly limit: number;
}

/** `aishell agent hold`: the process that holds a snapshot for the agent, and goes on when that ends. */
export function addAgentHold(cli: Cli, group: Command): void {
  const command = group
    .command('hold', { hidden: true })
    .description('what `agent run` starts to hold a snapshot')
    .requiredOption('--incident <id>', 'what it is held for')
    .requiredOption('--database <name>', 'whose snapshot it is')
    .requiredOption('--snapshot <name>', 'as the agent has exported it')
    .requiredOption('--until <time>', 'when it is let go, in ISO 8601')
    .requiredOption(
      '--limit <bytes>',
      'let go when so much log was written',
      wholeNumber(0, Number.MAX_SAFE_INTEGER),
    );
  addExamples(command, [['aishell agent hold', 'never run by a person']]).action((options: HoldOptions) =>
    cli.run(command, { run: run => runHold(run, options), draw: () => undefined }),
  );
}

/** Its snapshot's new name goes out by standard output: nobody but the agent runs it. */
async function runHold({ terminal, flags, signal }: CommandRun, options: HoldOptions): Promise<null> {
  const [{ readConfig }, { connectionOf }, { selectInstance }, { runSnapshotHolder }] = await Promise.all([
    import('../../config/read-config.ts'),
    import('../../app/open-instance.ts'),
    import('../../config/to-config.ts'),
    import('../../watch/snapshot-holder.ts'),
  ]);
  const config = readConfig({ file: flags.config, env: terminal.env, cwd: terminal.cwd });
  const { incident, database, snapshot, until, limit } = options;
  await runSnapshotHolder(
    {
      connection: connectionOf(selectInstance(config, flags.instance), terminal.env),
      ...{ incident, database, snapshot, limitBytes: limit, until: new Date(until) },
      report: name => void terminal.stdout.write(`${name}\n`),
    },
    signal,
  );
  return null;
}
