import { type Command, InvalidArgumentError, Option } from 'commander';
import { DURATION } from '../../base/duration.ts';
import { AppError } from '../../base/errors.ts';
import { successFrequencies } from '../../notify/alert-policy.ts';
import { notificationKinds, severities } from '../../notify/notification.ts';
import { type AlertFlags, changesOf, isAnyChange } from '../alert-options.ts';
import { addExamples, type Cli } from '../cli.ts';
import { type DiffLine, diffLines, drawDiff } from '../render/line-diff.ts';
import type { Page } from '../render/page.ts';
import type { CommandRun } from '../run-command.ts';

interface ConfigureResult {
  readonly file: string;
  readonly dryRun: boolean;
  readonly written: boolean;
  /** The file as it was; null when it was not written. */
  readonly previous: string | null;
  readonly diff: readonly DiffLine[];
  readonly channels: readonly string[];
  readonly problems: readonly string[];
}

/** `aishell backup alert configure` */
export function addAlertConfigure(cli: Cli, group: Command): void {
  const command = group
    .command('configure')
    .description('say who is told what, in aishell.yaml; without options it asks')
    .option(
      '--slack <secret>',
      'add Slack: the URL of an incoming webhook, as env:NAME, file:/PATH or command:…',
    )
    .option('--pagerduty <secret>', 'add PagerDuty: the routing key of an Events API v2 integration')
    .option('--pagerduty-url <url>', 'where events go (default: https://events.pagerduty.com/v2/enqueue)')
    .option('--email <addresses>', 'add e-mail: the recipients, with commas between', list)
    .option('--email-from <address>', 'the sender')
    .option('--smtp <host:port>', 'the mail server (default port: 587; with tls 465)')
    .addOption(
      new Option('--smtp-security <how>', 'how mail is encrypted (default: starttls)').choices([
        'starttls',
        'tls',
        'none',
      ]),
    )
    .option('--smtp-user <name>', 'the user name at the mail server')
    .option('--smtp-password <secret>', 'its password, as env:NAME, file:/PATH or command:…')
    .option('--allow-plaintext', 'with --smtp-security none: mail may cross the network unencrypted')
    .option('--webhook <url>', 'add a receiver of your own: an https:// URL, or where one is kept')
    .option(
      '--webhook-secret <secret>',
      'what its messages are signed with, as env:NAME, file:/PATH or command:…',
    )
    .option('--channel <name>', 'how the channel is called (default: its type)')
    .addOption(
      new Option('--min-severity <severity>', 'nothing less severe is told to it').choices(severities),
    )
    .option('--kinds <list>', `nothing else is told to it (${notificationKinds.join(', ')})`, list)
    .option('--ca <file>', "certificate authorities in PEM, instead of the system's")
    .option('--allow-private', 'its address may be one of a private network or of this machine')
    .option('--allow-http', 'it may be sent unencrypted')
    .option('--remove <names>', 'take channels out', list)
    .addOption(new Option('--on-failure <severity>', 'how severe a failure is').choices(severities))
    .option('--failure-channels <names>', 'who is told of failures (default: every channel)', list)
    .addOption(
      new Option('--on-success <frequency>', 'how often it is told that all is well').choices(
        successFrequencies,
      ),
    )
    .option('--success-channels <names>', 'who is told that (default: every channel)', list)
    .option('--incident-channels <names>', 'who is told of disasters (default: every channel)', list)
    .option('--repeat-after <time>', 'what is still wrong is told again after this, like 4h', duration)
    .option('--dry-run', 'show the change, and write nothing');
  addExamples(command, [
    ['aishell backup alert configure --on-failure critical', 'failures are critical'],
    ['aishell backup alert configure --slack env:SLACK_WEBHOOK_URL', 'tell Slack'],
    [
      'aishell backup alert configure --email dba@example.com --email-from aishell@example.com --smtp mail.example.com',
      'tell by e-mail',
    ],
    [
      'aishell backup alert configure --on-success weekly --success-channels slack --dry-run',
      'show a change',
    ],
  ]).action((flags: AlertFlags) =>
    cli.run(command, {
      title: '🔔 Alerts',
      run: run => configure(run, flags),
      draw: drawConfigured,
    }),
  );
}

function list(text: string): readonly string[] {
  const names = text
    .split(',')
    .map(name => name.trim())
    .filter(name => name !== '');
  if (names.length > 0) return names;
  throw new InvalidArgumentError('It must be a list with commas between.');
}

function duration(text: string): string {
  if (DURATION.test(text)) return text;
  throw new InvalidArgumentError('It must be a number with s, m, h or d, like 4h.');
}

async function configure(run: CommandRun, flags: AlertFlags): Promise<ConfigureResult> {
  const [{ findConfigFile }, { planAlerts, writeAlerts }] = await Promise.all([
    import('../../config/find-config.ts'),
    import('../../app/configure-alerts.ts'),
  ]);
  const { env, cwd } = run.terminal;
  const file = findConfigFile({ file: run.flags.config, env, cwd });
  const given = changesOf(flags);
  const isAsked = !isAnyChange(given);
  const plan = planAlerts(file, isAsked ? await askWhatToChange(run) : given, env);
  const diff = diffLines(plan.before, plan.after);
  const isDryRun = flags.dryRun === true;
  run.show(page => drawDiff(page, run.flags.json === true ? [] : diff));
  const isWritten = diff.length > 0 && !isDryRun && (!isAsked || (await isConfirmed(run)));
  const previous = isWritten ? (await writeAlerts(plan)).previous : null;
  const { channels, problems } = plan;
  return { file, dryRun: isDryRun, written: isWritten, previous, diff, channels, problems };
}

async function askWhatToChange(
  run: CommandRun,
): ReturnType<typeof import('../alert-questions.ts').askForAlerts> {
  const { terminal, flags } = run;
  if (terminal.stdin.isTTY !== true || terminal.stdout.isTTY !== true || flags.json === true) {
    throw new AppError('USAGE', 'unable to configure alerts: nothing was said to be changed', {
      hint: 'Give flags, like --on-failure critical or --slack env:NAME; or run it in a terminal to be asked.',
    });
  }
  const { askForAlerts } = await import('../alert-questions.ts');
  return await askForAlerts(run);
}

async function isConfirmed(run: CommandRun): Promise<boolean> {
  if (run.flags.yes === true) return true;
  const { confirmWriting } = await import('../alert-questions.ts');
  return await confirmWriting(run);
}

function drawConfigured(page: Page, result: ConfigureResult): void {
  page.line();
  if (result.diff.length === 0) page.line(`Nothing to change: '${result.file}' says so already.`);
  else if (result.written) {
    page.line(page.style.good(`✅ Written to ${result.file}`));
    page.line(page.style.dim(`   As it was: ${result.previous}`));
  } else page.line(`Not written: '${result.file}' is as it was.`);
  for (const problem of result.problems) page.line(page.style.warn(`⚠️  ${problem}`));
  page.section(
    'Next',
    result.channels.length === 0
      ? [
          'aishell backup alert configure --slack env:SLACK_WEBHOOK_URL   # or --pagerduty, --email, --webhook',
        ]
      : ['aishell backup alert test   # does it arrive?'],
  );
}
