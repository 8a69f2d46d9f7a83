import type { Command } from 'commander';
import type { AgentResult } from '../../agent/run-agent.ts';
import { counted, formatBytes } from '../../base/sizes.ts';
import { addExamples, type Cli } from '../cli.ts';
import type { Page } from '../render/page.ts';
import type { CommandRun } from '../run-command.ts';
import { programVersion } from '../version.ts';

/** `aishell agent run`, and the process it starts beside itself. */
export function addAgentRun(cli: Cli, group: Command): void {
  const command = group
    .command('run')
    .description("stream the server's log and archive it, until it is stopped")
    .option('--synchronous', 'commits wait until the agent has them on its disk');
  addExamples(command, [
    ['aishell agent run', 'all instances of the configuration, in the foreground'],
    [
      'aishell agent run --synchronous',
      'no commit that was answered is lost, whatever happens to the server',
    ],
  ]).action((options: { readonly synchronous?: boolean }) =>
    cli.run(command, {
      title: '📡 Streaming the Log',
      run: run => runAgentCommand(run, options.synchronous),
      draw: drawResult,
    }),
  );
  const watchdog = group
    .command('watchdog', { hidden: true })
    .description('what `agent run --synchronous` starts beside itself');
  addExamples(watchdog, [['aishell agent watchdog', 'never run by a person']]).action(() =>
    cli.run(watchdog, {
      run: runWatchdogCommand,
      draw: () => undefined,
    }),
  );
}

async function runAgentCommand(run: CommandRun, synchronous: boolean | undefined): Promise<AgentResult> {
  const [{ readConfig }, { openAgent }, { runAgent }] = await Promise.all([
    import('../../config/read-config.ts'),
    import('../../agent/open-agent.ts'),
    import('../../agent/run-agent.ts'),
  ]);
  const { terminal, flags, signal, onEvent } = run;
  const config = readConfig({ file: flags.config, env: terminal.env, cwd: terminal.cwd });
  const program = [process.execPath, ...process.execArgv, process.argv[1] ?? ''];
  const instances = await openAgent(config, {
    env: terminal.env,
    signal,
    instance: flags.instance,
    synchronous,
    watchdog: instance => [...program, 'agent', 'watchdog', '--config', config.file, '--instance', instance],
    holder: instance => [...program, 'agent', 'hold', '--config', config.file, '--instance', instance],
    toolVersion: programVersion(),
  });
  return await runAgent(instances, { signal, onEvent });
}

/** Orders come in by standard input, reports go out by standard output: nobody but the agent runs it. */
async function runWatchdogCommand({ terminal, flags }: CommandRun): Promise<null> {
  const [
    { readConfig },
    { connectionOf },
    { selectInstance },
    { agentPaths },
    { agentName },
    { runWatchdog },
    { isHeldByAnother },
  ] = await Promise.all([
    import('../../config/read-config.ts'),
    import('../../app/open-instance.ts'),
    import('../../config/to-config.ts'),
    import('../../agent/agent-paths.ts'),
    import('../../agent/agent-names.ts'),
    import('../../agent/watchdog.ts'),
    import('../../agent/agent-lock.ts'),
  ]);
  const config = readConfig({ file: flags.config, env: terminal.env, cwd: terminal.cwd });
  const instance = selectInstance(config, flags.instance);
  const paths = agentPaths(config.agent.spool, instance.name, terminal.env);
  const agent = process.ppid;
  await runWatchdog({
    connection: connectionOf(instance, terminal.env),
    name: agentName(instance.name),
    recordFile: paths.synchronous,
    timeoutMs: config.agent.synchronousTimeoutSeconds * 1000,
    orders: terminal.stdin,
    report: report => void terminal.stdout.write(`${JSON.stringify(report)}\n`),
    isSucceeded: () => isHeldByAnother(paths.lock, agent),
  });
  return null;
}

function drawResult(page: Page, { instances }: AgentResult): void {
  page.line();
  for (const each of instances) {
    const archived = `${counted(each.segmentsArchived, 'segment')} and ${counted(each.partsArchived, 'piece')} archived`;
    const durable = each.durable === null ? 'nothing received' : `received up to ${each.durable}`;
    const waiting =
      each.waitingBytes === 0 ? '' : `; ${formatBytes(each.waitingBytes)} wait in the spool for the next run`;
    page.line(`Stopped streaming ${each.instance}: ${durable}, ${archived}${waiting}`);
  }
}
