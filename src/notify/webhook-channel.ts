import { resolveSecretRef } from '../base/secret.ts';
import {
  type Channel,
  type ChannelEnvironment,
  DeliveryError,
  redact,
  type WebhookSettings,
} from './channel.ts';
import { actionOf, type Message, threadOf } from './notification.ts';
import { postJson, refusal } from './post-json.ts';
import { signatureHeaders, webhookKey } from './webhook-signature.ts';
import { briefTitle } from './wording.ts';

/** A receiver of the user's own: JSON, signed as docs/notifications.md describes. */
export function openWebhookChannel(
  settings: WebhookSettings,
  { env, resolveHost }: ChannelEnvironment,
): Channel {
  const written = /^https?:/.test(settings.url) ? URL.parse(settings.url) : null;
  return {
    name: settings.name,
    type: 'webhook',
    destination: written?.host ?? 'a URL that is kept secret',
    hears: settings.hears,
    async deliver(message, signal) {
      const url = written?.href ?? (await resolveSecretRef(settings.url, { env, signal })).reveal();
      const secret = (await resolveSecretRef(settings.secret, { env, signal })).reveal();
      const key = webhookKey(secret);
      if (key === null) {
        throw new DeliveryError(
          'CHANNEL_FAILED',
          `unable to sign for channel '${settings.name}': its secret must be whsec_ and 24 bytes or more in base64`,
          { isLasting: true, hint: 'Make one with: echo "whsec_$(openssl rand -base64 32)"' },
        );
      }
      const body = JSON.stringify(webhookBody(message));
      const headers = signatureHeaders(key, { id: message.id, sentAt: new Date(), body });
      const reply = await postJson(url, { body, headers }, { ...settings, signal, resolveHost });
      if (reply.status >= 200 && reply.status < 300) return { problem: null };
      const { host, pathname, search } = new URL(url);
      throw refusal(host, reply, redact(reply.text, [secret, url, `${pathname}${search}`]));
    },
  };
}

/** The body: fields are only ever added. */
export function webhookBody({
  id,
  notification,
  raisedAt,
  isLate,
}: Message): Readonly<Record<string, unknown>> {
  return {
    type: `aishell.${notification.kind}.${actionOf(notification)}`,
    timestamp: raisedAt.toISOString(),
    data: {
      id,
      kind: notification.kind,
      action: actionOf(notification),
      severity: notification.severity,
      instance: notification.instance,
      title: briefTitle(notification),
      facts: notification.facts.map(([name, value]) => ({ name, value })),
      commands: notification.commands,
      dedupKey: threadOf(notification),
      incidentId: notification.incidentId ?? null,
      late: isLate,
    },
  };
}
