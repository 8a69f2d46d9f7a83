import { AppError } from '../base/errors.ts';
import { parseSecretReference } from '../base/secret.ts';
import type { AlertChanges } from '../config/alert-changes.ts';
import { successFrequencies } from '../notify/alert-policy.ts';
import { severities } from '../notify/notification.ts';
import { type AlertFlags, changesOf } from './alert-options.ts';
import { askLine } from './confirm.ts';
import type { CommandRun } from './run-command.ts';

interface Question {
  readonly text: string;
  readonly preset: string | null;
  /** Null: accepted; else what is wrong with it. */
  check(answer: string): string | null;
}

const SECRET = 'as env:NAME, file:/PATH or command:…';

/** Asks what is to be changed, on the terminal. @throws CONFIRMATION_REQUIRED there is no terminal, or its input ended */
export async function askForAlerts(run: CommandRun): Promise<AlertChanges> {
  const type = await choose(run, 'Tell people by (slack, pagerduty, email, webhook, none)', {
    choices: ['slack', 'pagerduty', 'email', 'webhook', 'none'],
    preset: 'none',
  });
  const channel = type === 'none' ? {} : await askForChannel(run, type);
  const onFailure = await choose(run, `How severe is a backup that fails (${severities.join(', ')})`, {
    choices: severities,
    preset: 'critical',
  });
  const onSuccess = await choose(
    run,
    `How often to hear that all is well (${successFrequencies.join(', ')})`,
    {
      choices: successFrequencies,
      preset: 'weekly',
    },
  );
  return changesOf({ ...channel, onFailure, onSuccess });
}

/** Whether what was shown is to be written. */
export async function confirmWriting(run: CommandRun): Promise<boolean> {
  const answer = await choose(run, 'Write this (yes, no)', {
    choices: ['yes', 'no', 'y', 'n'],
    preset: 'yes',
  });
  return answer.startsWith('y');
}

async function askForChannel(run: CommandRun, type: string): Promise<AlertFlags> {
  const channel = await ask(run, {
    text: 'Name of the channel',
    preset: type,
    check: answer =>
      /^[a-z0-9][a-z0-9_-]{0,31}$/.test(answer)
        ? null
        : 'up to 32 lower case letters, digits, dashes, underscores',
  });
  if (type === 'slack')
    return { channel, slack: await askSecret(run, `URL of the incoming webhook, ${SECRET}`) };
  if (type === 'pagerduty')
    return { channel, pagerduty: await askSecret(run, `Routing key of the service, ${SECRET}`) };
  if (type === 'webhook') {
    return {
      channel,
      webhook: await ask(run, { text: 'URL to post to', preset: null, check: notEmpty }),
      webhookSecret: await askSecret(run, `Secret to sign with, ${SECRET}`),
    };
  }
  const email = await ask(run, { text: 'Recipients, with commas between', preset: null, check: notEmpty });
  const emailFrom = await ask(run, { text: 'Sender', preset: null, check: notEmpty });
  const smtp = await ask(run, { text: 'Mail server, HOST or HOST:PORT', preset: null, check: notEmpty });
  const smtpSecurity = await choose(run, 'How it is encrypted (starttls, tls, none)', {
    choices: ['starttls', 'tls', 'none'],
    preset: 'starttls',
  });
  const smtpUser = await ask(run, { text: 'User name (nothing: no login)', preset: '', check: () => null });
  const login =
    smtpUser === '' ? {} : { smtpUser, smtpPassword: await askSecret(run, `Password, ${SECRET}`) };
  return {
    channel,
    email: email.split(',').map(address => address.trim()),
    emailFrom,
    smtp,
    smtpSecurity,
    ...login,
  };
}

async function askSecret(run: CommandRun, text: string): Promise<string> {
  const check = (answer: string): string | null =>
    parseSecretReference(answer) === null ? `it must be given ${SECRET}, never as itself` : null;
  return await ask(run, { text, preset: null, check });
}

async function choose(
  run: CommandRun,
  text: string,
  { choices, preset }: { readonly choices: readonly string[]; readonly preset: string },
): Promise<string> {
  const check = (answer: string): string | null =>
    choices.includes(answer) ? null : `one of ${choices.join(', ')}`;
  return await ask(run, { text, preset, check });
}

function notEmpty(answer: string): string | null {
  return answer === '' ? 'it is needed' : null;
}

/** Asks until the answer will do. */
async function ask(run: CommandRun, { text, preset, check }: Question): Promise<string> {
  for (;;) {
    const shown = preset === null || preset === '' ? text : `${text} [${preset}]`;
    const line = await askLine(run, `${shown}: `);
    if (line === null) {
      throw new AppError('CONFIRMATION_REQUIRED', 'unable to ask: there is no terminal, or its input ended', {
        hint: 'Nothing was changed. Give flags instead: `aishell backup alert configure --help` lists them.',
      });
    }
    const answer = line.trim() === '' && preset !== null ? preset : line.trim();
    const wrong = check(answer);
    if (wrong === null) return answer;
    run.show(page => page.line(`  ${page.style.warn(wrong)}`));
  }
}
