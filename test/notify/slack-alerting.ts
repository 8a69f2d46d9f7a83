import type { AlertPolicy } from '../../src/notify/alert-policy.ts';
import type { Alerting } from '../../src/notify/alerting.ts';
import type { Channel, Hears } from '../../src/notify/channel.ts';
import { openChannel } from '../../src/notify/open-channel.ts';
import type { AlertReceiver } from './alert-receiver.ts';
import { allTold, everything } from './sample-alerts.ts';

/** The part of the webhook's URL that nobody may see. */
export const SECRET_PATH = '/services/topsecretpart';

/** A Slack channel of a receiver on this machine, unencrypted. */
export function slackAt(
  name: string,
  receiver: Pick<AlertReceiver, 'url'>,
  hears: Hears = everything,
): Channel {
  const rules = { allowPrivate: true, allowHttp: false, ca: null };
  const settings = { name, type: 'slack', hears, webhook: 'env:URL', ...rules } as const;
  return openChannel(settings, { env: { URL: `${receiver.url}${SECRET_PATH}` } });
}

export function alertingWith(
  directory: string | null,
  channels: readonly Channel[],
  policy: Partial<AlertPolicy> = {},
): Alerting {
  return { channels, policy: { ...allTold, ...policy }, directory };
}

/** The titles a receiver was told, in order. */
export function titlesAt({ requests }: AlertReceiver): readonly string[] {
  return requests.map(({ body }) => String(JSON.parse(body).text).replace(/^\S+ \S+: /u, ''));
}
