import { AppError } from '../base/errors.ts';
import { parseSecretReference } from '../base/secret.ts';
import { type AlertChanges, noAlertChanges } from '../config/alert-changes.ts';

/** The flags of `backup alert configure`. */
export interface AlertFlags {
  readonly slack?: string;
  readonly pagerduty?: string;
  readonly pagerdutyUrl?: string;
  readonly email?: readonly string[];
  readonly emailFrom?: string;
  readonly smtp?: string;
  readonly smtpSecurity?: string;
  readonly smtpUser?: string;
  readonly smtpPassword?: string;
  readonly webhook?: string;
  readonly webhookSecret?: string;
  readonly channel?: string;
  readonly minSeverity?: string;
  readonly kinds?: readonly string[];
  readonly ca?: string;
  readonly allowPrivate?: boolean;
  readonly allowHttp?: boolean;
  readonly allowPlaintext?: boolean;
  readonly remove?: readonly string[];
  readonly onFailure?: string;
  readonly failureChannels?: readonly string[];
  readonly onSuccess?: string;
  readonly successChannels?: readonly string[];
  readonly incidentChannels?: readonly string[];
  readonly repeatAfter?: string;
  readonly dryRun?: boolean;
}

/** What the flags change. @throws USAGE what does not belong together; SECRET_EXPOSED a secret that is written out */
export function changesOf(flags: AlertFlags): AlertChanges {
  return {
    ...noAlertChanges,
    channels: channelsOf(flags),
    removed: flags.remove ?? [],
    incidentChannels: flags.incidentChannels ?? null,
    failureChannels: flags.failureChannels ?? null,
    failureSeverity: flags.onFailure ?? null,
    successChannels: flags.successChannels ?? null,
    successFrequency: flags.onSuccess ?? null,
    repeatAfter: flags.repeatAfter ?? null,
  };
}

/** Whether the flags change anything: else the questions are asked. */
export function isAnyChange({ channels, removed, ...others }: AlertChanges): boolean {
  return channels.length + removed.length > 0 || Object.values(others).some(value => value !== null);
}

type ChannelChange = AlertChanges['channels'][number];
type Keys = ChannelChange['keys'];

function channelsOf(flags: AlertFlags): readonly ChannelChange[] {
  const given: readonly (Keys | null)[] = [
    slackOf(flags),
    pagerdutyOf(flags),
    emailOf(flags),
    webhookOf(flags),
  ];
  const types = given.filter(keys => keys !== null);
  const [only, ...more] = types;
  const shared = [
    flags.channel,
    flags.minSeverity,
    flags.kinds,
    flags.ca,
    flags.allowPrivate,
    flags.allowHttp,
  ];
  const isShared = shared.some(value => value !== undefined);
  if (only === undefined) {
    if (!isShared) return [];
    throw usage(
      'unable to tell which channel is meant',
      'Name it by its type: --slack, --pagerduty, --email or --webhook.',
    );
  }
  if (more.length > 0 && isShared)
    throw usage('unable to tell which of several channels is meant', 'Run it once for each channel.');
  const common = {
    ...(flags.minSeverity === undefined ? {} : { min_severity: flags.minSeverity }),
    ...(flags.kinds === undefined ? {} : { kinds: flags.kinds }),
    ...(flags.ca === undefined ? {} : { ca: flags.ca }),
    ...(flags.allowPrivate === true ? { allow_private: true } : {}),
    ...(flags.allowHttp === true ? { allow_http: true } : {}),
  };
  return types.map(keys => ({
    name: flags.channel ?? String(keys['type']),
    keys: { ...keys, ...common },
  }));
}

function slackOf({ slack }: AlertFlags): Keys | null {
  return slack === undefined ? null : { type: 'slack', webhook: reference('--slack', slack) };
}

function pagerdutyOf({ pagerduty, pagerdutyUrl }: AlertFlags): Keys | null {
  if (pagerduty === undefined) {
    if (pagerdutyUrl !== undefined) throw belongs('--pagerduty-url', '--pagerduty');
    return null;
  }
  return {
    type: 'pagerduty',
    routing_key: reference('--pagerduty', pagerduty),
    ...(pagerdutyUrl === undefined ? {} : { url: pagerdutyUrl }),
  };
}

function webhookOf({ webhook, webhookSecret }: AlertFlags): Keys | null {
  if (webhook === undefined) {
    if (webhookSecret !== undefined) throw belongs('--webhook-secret', '--webhook');
    return null;
  }
  if (webhookSecret === undefined) {
    throw usage(
      'unable to add a webhook without a secret to sign with',
      'Give it with --webhook-secret as env:NAME, file:/PATH or command:…',
    );
  }
  return { type: 'webhook', url: webhook, secret: reference('--webhook-secret', webhookSecret) };
}

function emailOf(flags: AlertFlags): Keys | null {
  const { email, emailFrom, smtp, smtpUser, smtpPassword } = flags;
  if (email === undefined) {
    const alone = Object.entries({ emailFrom, smtp, smtpUser, smtpPassword, security: flags.smtpSecurity });
    if (alone.some(([, value]) => value !== undefined)) throw belongs('a mail server', '--email');
    return null;
  }
  const server = /^(?<host>[^\s/@:]+|\[[0-9a-f:.]+\])(?::(?<port>\d{1,5}))?$/i.exec(smtp ?? '');
  if (server?.groups === undefined || emailFrom === undefined) {
    throw usage(
      'unable to add e-mail without a mail server and a sender',
      'Give them with --smtp HOST:PORT and --email-from ADDRESS.',
    );
  }
  const { host = '', port } = server.groups;
  return {
    type: 'email',
    host: host.replace(/^\[|\]$/g, ''),
    ...(port === undefined ? {} : { port: Number(port) }),
    ...(flags.smtpSecurity === undefined ? {} : { security: flags.smtpSecurity }),
    ...(flags.allowPlaintext === true ? { allow_plaintext: true } : {}),
    ...(smtpUser === undefined ? {} : { user: smtpUser }),
    ...(smtpPassword === undefined ? {} : { password: reference('--smtp-password', smtpPassword) }),
    from: emailFrom,
    to: email,
  };
}

/** A secret on the command line stands in the shell's history and in the list of processes: the message does not repeat it. */
function reference(flag: string, text: string): string {
  if (parseSecretReference(text) !== null) return text;
  throw new AppError('SECRET_EXPOSED', `unable to take ${flag}: it must say where the secret is kept`, {
    hint: 'Give env:NAME, file:/ABSOLUTE/PATH or command:…; and if that was the secret itself, replace it.',
  });
}

function belongs(flag: string, to: string): AppError {
  return usage(`unable to use ${flag} by itself`, `Give ${to} with it.`);
}

function usage(message: string, hint: string): AppError {
  return new AppError('USAGE', message, { hint });
}
