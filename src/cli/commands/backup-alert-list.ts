import type { Command } from 'commander';
import type { AlertPolicy } from '../../notify/alert-policy.ts';
import type { AlertingStatus, ChannelStatus } from '../../notify/alerting-status.ts';
import { addExamples, type Cli } from '../cli.ts';
import { type Page, printable, truncate } from '../render/page.ts';
import { formatTime } from '../render/time.ts';
import type { CommandRun } from '../run-command.ts';

interface ListResult extends AlertingStatus {
  readonly alerts: AlertPolicy;
  /** Where undelivered notifications are kept. */
  readonly directory: string | null;
}

/** `aishell backup alert list` */
export function addAlertList(cli: Cli, group: Command): void {
  const command = group.command('list').description('who is told what, and whether it arrives');
  addExamples(command, [
    ['aishell backup alert list', 'channels, what they hear, what is waiting'],
    ['aishell backup alert list --json', 'the same for a program'],
  ]).action(() => cli.run(command, { title: '🔔 Alerts', run: listAlerts, draw: drawList }));
}

async function listAlerts({ terminal, flags }: CommandRun): Promise<ListResult> {
  const [{ readConfig }, { openAlerting }, { readAlertingStatus }] = await Promise.all([
    import('../../config/read-config.ts'),
    import('../../app/open-alerting.ts'),
    import('../../notify/alerting-status.ts'),
  ]);
  const { env, cwd } = terminal;
  const alerting = openAlerting(readConfig({ file: flags.config, env, cwd }), env);
  const { policy, directory } = alerting;
  return { ...(await readAlertingStatus(alerting)), alerts: policy, directory };
}

function drawList(page: Page, { channels, problems, alerts }: ListResult): void {
  if (channels.length > 0) {
    page.table(
      ['Channel', 'Type', 'To', 'Hears', 'Last delivery', 'Waiting'],
      channels.map(channel => [
        channel.name,
        channel.type,
        truncate(printable(channel.destination), 44),
        hearsText(channel),
        channel.deliveredAt === null ? '-' : formatTime(channel.deliveredAt),
        channel.waiting === 0 ? '-' : String(channel.waiting),
      ]),
    );
  }
  page.section('Told', [
    ['Disasters', namesOf(alerts.onIncident.channels)],
    ['Failures', `${namesOf(alerts.onFailure.channels)}, as ${alerts.onFailure.severity}`],
    ['Success', `${namesOf(alerts.onSuccess.channels)}, ${alerts.onSuccess.frequency}`],
  ]);
  const wrong = [
    ...problems,
    ...channels.flatMap(({ name, problem, dropped }) => [
      ...(problem === null ? [] : [`${name}: ${problem}`]),
      ...(dropped === 0
        ? []
        : [
            `${name}: ${dropped} ${dropped === 1 ? 'notification was' : 'notifications were'} never delivered`,
          ]),
    ]),
  ];
  page.section(
    'Problems',
    wrong.map(text => page.style.warn(printable(text))),
  );
}

function hearsText({ hears }: ChannelStatus): string {
  const what = hears.kinds === null ? 'everything' : hears.kinds.join(', ');
  return hears.minSeverity === 'info' ? what : `${what}, ${hears.minSeverity} and above`;
}

function namesOf(names: readonly string[] | null): string {
  return names === null ? 'every channel' : names.join(', ');
}
