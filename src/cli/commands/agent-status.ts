import type { Command } from 'commander';
import type { AgentStatus } from '../../agent/agent-status.ts';
import { AppError, fromErrorRecord } from '../../base/errors.ts';
import { counted, formatAge, formatBytes } from '../../base/sizes.ts';
import { addExamples, type Cli } from '../cli.ts';
import { type Page, printable } from '../render/page.ts';
import { formatTime } from '../render/time.ts';
import type { CommandRun } from '../run-command.ts';

/** `aishell agent status` */
export function addAgentStatus(cli: Cli, group: Command): void {
  const command = group.command('status').description('what the agent of an instance does');
  addExamples(command, [
    ['aishell agent status', 'how far the log is received and archived'],
    ['aishell agent status --json', 'the same for a program'],
  ]).action(() => cli.run(command, { run: readStatus, draw: drawStatus }));
}

async function readStatus({ terminal, flags }: CommandRun): Promise<AgentStatus> {
  const [{ readConfig }, { selectInstance }, { agentPaths }, { askAgent }] = await Promise.all([
    import('../../config/read-config.ts'),
    import('../../config/to-config.ts'),
    import('../../agent/agent-paths.ts'),
    import('../../agent/agent-client.ts'),
  ]);
  const config = readConfig({ file: flags.config, env: terminal.env, cwd: terminal.cwd });
  const { name } = selectInstance(config, flags.instance);
  const { socket } = agentPaths(config.agent.spool, name, terminal.env);
  const reply = await askAgent(socket, { op: 'status' });
  if (reply !== null && 'ok' in reply) {
    if (!reply.ok) throw fromErrorRecord(reply.error);
    if ('status' in reply) return reply.status;
  }
  throw new AppError('AGENT_NOT_RUNNING', `no agent of instance '${name}' answers at '${socket}'`, {
    hint: 'Start it with `aishell agent run`. It answers to its own user alone, and its spool must be the one of this configuration.',
  });
}

function drawStatus(page: Page, status: AgentStatus): void {
  const { archive, spool, slot } = status;
  const lag = status.lagBytes === null ? '' : `, ${formatBytes(status.lagBytes)} behind the server`;
  const problem = status.problem === null ? '' : `: ${status.problem}`;
  page.line(`Agent of ${status.instance}: ${status.state}${problem}`);
  page.section('Log', [
    ['Timeline', status.timeline === null ? null : String(status.timeline)],
    ['Received', status.received],
    ['On disk', status.durable === null ? null : `${status.durable}${lag}`],
    ['Commits wait for the agent', waitText(status.synchronous)],
  ]);
  page.section('Archive', [
    ['Last segment', withAge(archive.lastSegment, archive.lastSegmentAt)],
    ['Last piece', withAge(archive.part, archive.partAt)],
    ['Problem', archive.problem],
  ]);
  page.section('Spool', [
    ['Directory', spool.directory],
    [
      'Not archived',
      `${formatBytes(spool.waitingBytes)} of ${formatBytes(spool.limitBytes)}, ${counted(spool.waitingSegments, 'full segment')}`,
    ],
  ]);
  if (slot !== null) {
    page.section('Slot', [
      ['Name', slot.name],
      ['State', slot.walStatus],
      ['Log kept by the server', slot.retainedBytes === null ? null : formatBytes(slot.retainedBytes)],
      ['At most', slot.limitBytes === null ? 'no limit' : formatBytes(slot.limitBytes)],
      ['Warning', slot.warning],
    ]);
  }
  if (status.watch !== null) drawWatch(page, status.watch);
  page.section(
    'Missing log',
    status.gaps.map(
      gap => `${gap.from} to ${gap.to} of timeline ${gap.timeline}, noticed ${formatTime(gap.noticed)}`,
    ),
  );
}

function drawWatch(page: Page, { policy, problem, held }: NonNullable<AgentStatus['watch']>): void {
  page.section('Watch', [
    ['Policy', policy],
    ['Problem', problem],
    ...held.map(({ incident, outcome, snapshot, outlivesAgent, autovacuumOff }) => {
      const by = outlivesAgent ? 'in a process of its own' : 'as long as the agent runs';
      const kept = [
        ...(snapshot === null ? [] : [`a snapshot until ${formatTime(snapshot.heldUntil)}, ${by}`]),
        ...autovacuumOff.map(table => `autovacuum off for ${printable(table)}`),
      ];
      return [incident, kept.length === 0 ? outcome : kept.join(', ')] as const;
    }),
  ]);
}

function waitText(synchronous: AgentStatus['synchronous']): string {
  return { off: 'no', waiting: 'not now', on: 'yes' }[synchronous];
}

function withAge(what: string | null, at: string | null): string | null {
  return what === null || at === null ? what : `${what}, ${formatAge(Date.now() - Date.parse(at))}`;
}
