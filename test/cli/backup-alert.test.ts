import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createProgram } from '../../src/cli/program.ts';
import { diffLines } from '../../src/cli/render/line-diff.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import { type AlertReceiver, reply, startReceiver } from '../notify/alert-receiver.ts';
import { pagerDutyApi, slackApi } from '../notify/published-apis.ts';
import { type TemporaryDirectory, temporaryDirectory } from '../support/temp.ts';

const text = `# ours
version: 1
instances:
  production: { engine: postgresql, connection: 'postgresql://postgres@/postgres' }
repository:
  storage: /var/backups/aishell
  key: { file: /etc/aishell/aishell.key }
`;

let directory: TemporaryDirectory;
let file: string;
beforeEach(async () => {
  directory = await temporaryDirectory();
  file = join(directory.path, 'aishell.yaml');
  writeFileSync(file, text, { mode: 0o640 });
  chmodSync(file, 0o640);
});
afterEach(() => directory[Symbol.asyncDispose]());

interface Ran {
  readonly exitCode: number;
  readonly output: string;
  readonly result: Record<string, unknown> | null;
}

/** Runs `aishell backup alert …`; with answers it is in a terminal, and they are typed as the questions come. */
async function run(
  args: readonly string[],
  {
    env = {},
    answers = null,
  }: { readonly env?: NodeJS.ProcessEnv; readonly answers?: readonly string[] | null } = {},
): Promise<Ran> {
  const isTTY = answers !== null;
  const stdin = Object.assign(new PassThrough(), { isTTY });
  const stdout = Object.assign(new PassThrough(), { isTTY, columns: 0 });
  const stderr = new PassThrough();
  let output = '';
  const left = [...(answers ?? [])];
  for (const stream of [stdout, stderr]) {
    stream.on('data', chunk => {
      output += String(chunk);
      if (stream !== stdout || !isTTY || !/: $/.test(String(chunk))) return;
      const answer = left.shift();
      if (answer === undefined) stdin.end();
      else stdin.write(`${answer}\n`);
    });
  }
  let exitCode = 0;
  const terminal = {
    stdin,
    stdout,
    stderr,
    env: { HOME: directory.path, ...env },
    cwd: directory.path,
    signal: new AbortController().signal,
  };
  const program = createProgram(terminal, code => {
    exitCode = code;
  });
  await program.parseAsync(['--config', file, 'backup', 'alert', ...args], { from: 'user' });
  await new Promise(resolve => setImmediate(resolve));
  const last = output.trim().split('\n').at(-1) ?? '';
  const result = last.startsWith('{') ? (JSON.parse(last).result ?? null) : null;
  return { exitCode, output, result };
}

const config = () => parseConfig(readFileSync(file, 'utf8'), file).notifications;

describe('backup alert configure', () => {
  it('as the tutorial has it - written, shown as a diff, and what is missing is said', async () => {
    const { exitCode, output } = await run(['configure', '--on-failure', 'critical']);
    expect(exitCode).toBe(0);
    expect(output).toContain('+ alerts:\n+   on_failure:\n+     severity: critical\n');
    expect(output).toContain('no channel is configured: nobody is told anything');
    expect(readFileSync(file, 'utf8')).toBe(`${text}alerts:\n  on_failure:\n    severity: critical\n`);
    expect(readFileSync(`${file}.previous`, 'utf8')).toBe(text);
    expect(statSync(file).mode & 0o777).toBe(0o640);
    expect(readdirSync(directory.path).toSorted()).toEqual(['aishell.yaml', 'aishell.yaml.previous']);
  });

  it('every channel by flags - as given', async () => {
    await run([
      'configure',
      '--slack',
      'env:SLACK',
      '--pagerduty',
      'file:/k',
      '--webhook',
      'https://ops.example.com/x',
      '--webhook-secret',
      'command:pass x',
    ]);
    await run([
      'configure',
      '--email',
      'a@example.com, b@example.com',
      '--smtp',
      'mail.example.com:2525',
      '--smtp-security',
      'tls',
      '--smtp-user',
      'u',
      '--smtp-password',
      'env:P',
      '--email-from',
      'DB <db@example.com>',
      '--channel',
      'team',
      '--min-severity',
      'critical',
    ]);
    const done = await run([
      'configure',
      '--incident-channels',
      'slack,pagerduty',
      '--on-success',
      'monthly',
      '--repeat-after',
      '1h',
      '--json',
    ]);
    expect(done.result).toMatchObject({
      written: true,
      channels: ['slack', 'pagerduty', 'webhook', 'team'],
      problems: [],
    });
    expect(config()).toMatchObject({
      channels: [
        { name: 'slack', webhook: 'env:SLACK' },
        { name: 'pagerduty', routingKey: 'file:/k' },
        { name: 'webhook', url: 'https://ops.example.com/x', secret: 'command:pass x' },
        {
          name: 'team',
          host: 'mail.example.com',
          port: 2525,
          security: 'tls',
          user: 'u',
          password: 'env:P',
          to: ['a@example.com', 'b@example.com'],
          hears: { minSeverity: 'critical' },
        },
      ],
      policy: {
        onIncident: { channels: ['slack', 'pagerduty'] },
        onSuccess: { frequency: 'monthly' },
        repeatAfterMs: 3_600_000,
      },
    });
  });

  it('--dry-run - shown, and nothing written', async () => {
    const { result } = await run(['configure', '--slack', 'env:SLACK', '--dry-run', '--json']);
    expect(result).toMatchObject({ dryRun: true, written: false, previous: null });
    expect(readFileSync(file, 'utf8')).toBe(text);
    expect(readdirSync(directory.path)).toEqual(['aishell.yaml']);
  });

  it('the same again - nothing to change', async () => {
    await run(['configure', '--slack', 'env:SLACK']);
    const { output } = await run(['configure', '--slack', 'env:SLACK']);
    expect(output).toContain('Nothing to change');
    expect(readFileSync(`${file}.previous`, 'utf8')).toBe(text);
  });

  it.each([
    [['--slack', 'https://hooks.slack.com/services/hunter2'], 2, 'SECRET_EXPOSED'],
    [
      [
        '--email',
        'a@example.com',
        '--smtp',
        'm',
        '--email-from',
        'b@example.com',
        '--smtp-user',
        'u',
        '--smtp-password',
        'hunter2',
      ],
      2,
      'SECRET_EXPOSED',
    ],
    [['--webhook', 'https://x.example.com'], 2, 'USAGE'],
    [['--webhook-secret', 'env:X'], 2, 'USAGE'],
    [['--min-severity', 'critical'], 2, 'USAGE'],
    [['--slack', 'env:A', '--pagerduty', 'env:B', '--channel', 'x'], 2, 'USAGE'],
    [['--email', 'nobody', '--smtp', 'm', '--email-from', 'b@example.com'], 2, 'CONFIG'],
    [['--failure-channels', 'slack'], 6, 'CHANNEL_NOT_FOUND'],
    [['--remove', 'slack'], 6, 'CHANNEL_NOT_FOUND'],
    [[], 2, 'USAGE'],
  ])('%j - refused, nothing written, no secret repeated', async (flags, exitCode, code) => {
    const ran = await run(['configure', ...flags]);
    expect(ran.exitCode).toBe(exitCode);
    expect(ran.output).toContain(`code: ${code}`);
    expect(ran.output).not.toContain('hunter2');
    expect(readFileSync(file, 'utf8')).toBe(text);
  });

  it('in a terminal - asks, asks again what cannot be, shows, and writes when told to', async () => {
    const answers = ['slck', 'slack', '', 'https://hooks.slack.com/x', 'env:SLACK', '', 'weekly', 'yes'];
    const { output, exitCode } = await run(['configure'], { answers });
    expect(exitCode).toBe(0);
    expect(output).toContain('it must be given as env:NAME, file:/PATH or command:…, never as itself');
    expect(config()).toMatchObject({
      channels: [{ name: 'slack', webhook: 'env:SLACK' }],
      policy: { onFailure: { severity: 'critical' }, onSuccess: { frequency: 'weekly' } },
    });
  });

  it('in a terminal, and then no, or its end - nothing written', async () => {
    const no = await run(['configure'], { answers: ['none', '', '', 'no'] });
    expect(no.output).toContain('Not written');
    const ended = await run(['configure'], { answers: ['none'] });
    expect(ended.exitCode).toBe(4);
    expect(readFileSync(file, 'utf8')).toBe(text);
  });
});

describe('backup alert test and list', () => {
  let slack: AlertReceiver;
  let pagerduty: AlertReceiver;
  beforeEach(async () => {
    slack = await startReceiver(slackApi, { isTls: false });
    pagerduty = await startReceiver(pagerDutyApi, { isTls: false });
    writeFileSync(
      file,
      `${text}notifications:
  channels:
    slack: { type: slack, webhook: env:SLACK, allow_private: true }
    pager: { type: pagerduty, routing_key: env:KEY, url: '${pagerduty.url}/v2/enqueue', allow_private: true }
alerts: { on_failure: { channels: [slack, oops] } }
`,
    );
  });
  afterEach(async () => {
    await slack[Symbol.asyncDispose]();
    await pagerduty[Symbol.asyncDispose]();
  });
  const env = (): NodeJS.ProcessEnv => ({ SLACK: `${slack.url}/services/hunter2`, KEY: 'k'.repeat(32) });

  it('every channel answers - exit 0; what was opened at PagerDuty is closed', async () => {
    const { exitCode, output } = await run(['test'], { env: env() });
    expect(exitCode).toBe(0);
    expect(output).toContain('✅ Delivered to all 2 channels');
    const events = pagerduty.requests.map(({ body }) => JSON.parse(body));
    expect(events.map(event => event.event_action)).toEqual(['trigger', 'resolve']);
    expect(events[1].dedup_key).toBe(events[0].dedup_key);
    expect(slack.requests).toHaveLength(1);
  });

  it('one refuses - exit 3, its words, its hint, no secret', async () => {
    slack.answer = reply(403, 'invalid_token for /services/hunter2');
    const { exitCode, result } = await run(['test', '--json'], { env: { ...env(), KEY: '' } });
    expect(exitCode).toBe(3);
    expect(result).toMatchObject({
      failed: 2,
      channels: [
        {
          channel: 'slack',
          isDelivered: false,
          problem: expect.stringContaining('403, invalid_token for [redacted]'),
        },
        { channel: 'pager', isDelivered: false, problem: expect.stringContaining('env:KEY') },
      ],
    });
  });

  it('--channel - only that one; an unknown one is refused', async () => {
    const { result } = await run(['test', '--channel', 'slack', '--json'], { env: env() });
    expect(result).toMatchObject({ channels: [{ channel: 'slack', isDelivered: true }] });
    expect(pagerduty.requests).toEqual([]);
    const wrong = await run(['test', '--channel', 'slak'], { env: env() });
    expect(wrong).toMatchObject({ exitCode: 6, output: expect.stringContaining("Did you mean 'slack'?") });
  });

  it('list - who hears what, and what is wrong', async () => {
    const { exitCode, output } = await run(['list']);
    expect(exitCode).toBe(0);
    expect(output).toMatch(/slack +│ slack +│ incoming webhook +│ everything /);
    expect(output).toMatch(/pager +│ pagerduty │ 127\.0\.0\.1:\d+ +│ everything, warning and above/);
    expect(output).toContain("alerts are to go to 'oops', and there is no such channel");
  });
});

describe('diffLines', () => {
  const shown = (before: string, after: string): string =>
    diffLines(before, after)
      .map(({ sign, text: line }) => `${sign}${line}`)
      .join('\n');

  it('a line changed, one added, one removed - with three lines around each', () => {
    const lines = Array.from({ length: 20 }, (_, index) => `line ${index}`);
    const changed = lines.with(2, 'changed').toSpliced(12, 0, 'new').toSpliced(19, 1);
    expect(shown(lines.join('\n'), changed.join('\n'))).toBe(
      [
        ' line 0',
        ' line 1',
        '-line 2',
        '+changed',
        ' line 3',
        ' line 4',
        ' line 5',
        '…',
        ' line 9',
        ' line 10',
        ' line 11',
        '+new',
        ' line 12',
        ' line 13',
        ' line 14',
        '…',
        ' line 15',
        ' line 16',
        ' line 17',
        '-line 18',
        ' line 19',
      ]
        .join('\n')
        .replace('…\n line 15', ' line 15'),
    );
  });

  it('the same, and from nothing - none, and all of it', () => {
    expect(diffLines('a\n', 'a\n')).toEqual([]);
    expect(shown('', 'a\nb\n')).toBe('-\n+a\n+b');
  });
});
