import type { Command } from 'commander';
import { exitCodes } from '../../base/codes.ts';
import type { ResolveReport } from '../../operations/incident/resolve-incident.ts';
import { addExamples, type Cli, nameOption } from '../cli.ts';
import { openCommandInstance } from '../open-instance.ts';
import { drawResolved } from '../render/incident-page.ts';
import type { CommandRun } from '../run-command.ts';

interface ResolveOptions {
  readonly reason?: string;
  readonly dryRun?: boolean;
}

/** `aishell incident resolve ID` */
export function addIncidentResolve(cli: Cli, group: Command): void {
  const command = group
    .command('resolve')
    .description('say that an incident is over, and let go of what is held for it')
    .argument('<id>', 'its id, the end of it, or latest')
    .option('--reason <text>', 'what became of it', nameOption)
    .option('--dry-run', 'show what would be let go, change nothing');
  addExamples(command, [
    ['aishell incident resolve a1b2c3 --reason "rows are back"', 'releases the snapshot, autovacuum goes on'],
    ['aishell incident resolve latest --dry-run', 'what is held for the last one?'],
  ]).action((id: string, options: ResolveOptions) =>
    cli.run(command, {
      run: run => runResolve(run, id, options),
      draw: drawResolved,
      exitCode: ({ problems }) => (problems.length === 0 ? 0 : exitCodes.FINISHED_WITH_PROBLEMS),
    }),
  );
}

async function runResolve(run: CommandRun, id: string, options: ResolveOptions): Promise<ResolveReport> {
  const { terminal, flags, signal } = run;
  const [{ readConfig }, { agentPaths }, { askAgent }, { resolveIncident }, context] = await Promise.all([
    import('../../config/read-config.ts'),
    import('../../agent/agent-paths.ts'),
    import('../../agent/agent-client.ts'),
    import('../../operations/incident/resolve-incident.ts'),
    openCommandInstance(run),
  ]);
  const config = readConfig({ file: flags.config, env: terminal.env, cwd: terminal.cwd });
  const { socket } = agentPaths(config.agent.spool, context.instance, terminal.env);
  const tellAgent = async (incident: string): Promise<boolean> => {
    const reply = await askAgent(socket, { op: 'resolved', incident });
    return reply !== null && 'released' in reply && reply.released;
  };
  const request = { id, reason: options.reason ?? null, dryRun: options.dryRun === true };
  const report = await resolveIncident({ ...context, tellAgent }, request, { signal, onEvent: run.onEvent });
  if (!report.already && !report.dryRun) await tellPeople(run, report);
  return report;
}

/** Those who heard of it hear that it is over. */
async function tellPeople(
  { terminal, flags, signal, onEvent }: CommandRun,
  report: ResolveReport,
): Promise<void> {
  const [{ readConfig }, { openAlerting }, { notify }, { incidentNotification }] = await Promise.all([
    import('../../config/read-config.ts'),
    import('../../app/open-alerting.ts'),
    import('../../notify/notify.ts'),
    import('../../watch/incident-notification.ts'),
  ]);
  const config = readConfig({ file: flags.config, env: terminal.env, cwd: terminal.cwd });
  const { incident } = report;
  const showQuery = config.instances.get(incident.instance)?.watch.showQuery ?? false;
  const { problems } = await notify(
    openAlerting(config, terminal.env),
    incidentNotification(incident, { showQuery }),
    {
      signal,
    },
  );
  for (const message of problems) onEvent({ type: 'note', level: 'warning', message });
}
