import type { Command } from 'commander';
import { exitCodes } from '../../base/codes.ts';
import { didYouMean } from '../../base/did-you-mean.ts';
import { AppError } from '../../base/errors.ts';
import { counted, formatSeconds } from '../../base/sizes.ts';
import type { Alerting } from '../../notify/alerting.ts';
import type { Channel } from '../../notify/channel.ts';
import type { ChannelTest } from '../../notify/test-channels.ts';
import { addExamples, type Cli } from '../cli.ts';
import { type Page, printable } from '../render/page.ts';
import type { CommandRun } from '../run-command.ts';

interface TestResult {
  readonly channels: readonly ChannelTest[];
  readonly failed: number;
}

/** `aishell backup alert test` */
export function addAlertTest(cli: Cli, group: Command): void {
  const command = group
    .command('test')
    .description('send a test to every channel, or to one')
    .option('--channel <name>', 'only this one');
  addExamples(command, [
    ['aishell backup alert test', 'does everything arrive? exit code 3 when not'],
    ['aishell backup alert test --channel slack', 'only one channel'],
  ]).action((options: { readonly channel?: string }) =>
    cli.run(command, {
      title: '🔔 Test of the Alerts',
      run: run => testAlerts(run, options.channel ?? null),
      draw: drawTest,
      exitCode: ({ failed }) => (failed > 0 ? exitCodes.FINISHED_WITH_PROBLEMS : 0),
    }),
  );
}

async function testAlerts({ terminal, flags, signal }: CommandRun, name: string | null): Promise<TestResult> {
  const [{ readConfig }, { openAlerting }, { testChannels }] = await Promise.all([
    import('../../config/read-config.ts'),
    import('../../app/open-alerting.ts'),
    import('../../notify/test-channels.ts'),
  ]);
  const { env, cwd } = terminal;
  const config = readConfig({ file: flags.config, env, cwd });
  const chosen = chooseChannels(openAlerting(config, env), name);
  const instance = flags.instance ?? [...config.instances.keys()].join(', ');
  const channels = await testChannels(chosen, instance, signal);
  signal.throwIfAborted();
  return { channels, failed: channels.filter(({ isDelivered }) => !isDelivered).length };
}

function chooseChannels({ channels }: Alerting, name: string | null): readonly Channel[] {
  if (channels.length === 0) {
    throw new AppError('CHANNEL_NOT_FOUND', 'unable to test: no channel is configured', {
      hint: 'Add one: aishell backup alert configure --slack env:SLACK_WEBHOOK_URL',
    });
  }
  if (name === null) return channels;
  const found = channels.filter(channel => channel.name === name);
  if (found.length > 0) return found;
  const names = channels.map(channel => channel.name);
  const near = didYouMean(name, names);
  throw new AppError('CHANNEL_NOT_FOUND', `there is no channel '${name}'`, {
    hint: near === null ? `There are: ${names.join(', ')}.` : `Did you mean '${near}'?`,
  });
}

function drawTest(page: Page, { channels, failed }: TestResult): void {
  for (const { channel, type, destination, isDelivered, problem, hint, seconds } of channels) {
    const where = page.style.dim(`${type}, ${destination}, ${formatSeconds(seconds)}`);
    page.line(`  ${isDelivered ? page.style.good('✓') : page.style.bad('✗')} ${channel}  ${where}`);
    if (problem !== null) page.line(`    ${page.style.warn(printable(problem))}`);
    if (hint !== null) page.line(`    → ${printable(hint)}`);
  }
  page.line();
  const sent = channels.length - failed;
  page.line(
    failed === 0
      ? page.style.good(`✅ Delivered to ${sent === 1 ? 'the channel' : `all ${sent} channels`}`)
      : page.style.bad(`✗ ${failed} of ${counted(channels.length, 'channel')} did not take it`),
  );
}
