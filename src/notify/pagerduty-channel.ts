import { resolveSecretRef } from '../base/secret.ts';
import {
  type Channel,
  type ChannelEnvironment,
  DeliveryError,
  type PagerDutySettings,
  redact,
} from './channel.ts';
import { pagerDutyEvent } from './pagerduty-event.ts';
import { type PostReply, postJson, refusal } from './post-json.ts';

/** PagerDuty's Events API v2. @source https://developer.pagerduty.com/docs/events-api-v2/overview/ (response codes) */
export function openPagerDutyChannel(
  settings: PagerDutySettings,
  { env, resolveHost }: ChannelEnvironment,
): Channel {
  const { host } = new URL(settings.url);
  return {
    name: settings.name,
    type: 'pagerduty',
    destination: host,
    hears: settings.hears,
    async deliver(message, signal) {
      const routingKey = (await resolveSecretRef(settings.routingKey, { env, signal })).reveal();
      if (!/^[A-Za-z0-9]{32}$/.test(routingKey)) {
        throw new DeliveryError(
          'CHANNEL_FAILED',
          `unable to use the routing key of channel '${settings.name}': it must be 32 letters and digits`,
          {
            isLasting: true,
            hint: 'It is the integration key of an "Events API V2" integration of the service.',
          },
        );
      }
      const body = JSON.stringify(pagerDutyEvent(message, routingKey));
      const reply = await postJson(settings.url, { body }, { ...settings, signal, resolveHost });
      if (reply.status === 202) return { problem: null };
      throw refusal(host, reply, redact(answerOf(reply), [routingKey]));
    },
  };
}

/** `{"status":"invalid event","message":"Event object is invalid","errors":["…"]}` in one line. */
function answerOf({ text }: PostReply): string {
  try {
    const answer: unknown = JSON.parse(text);
    if (typeof answer !== 'object' || answer === null) return text;
    const { message, errors } = answer as { readonly message?: unknown; readonly errors?: unknown };
    const details = Array.isArray(errors) ? errors.map(String) : [];
    return typeof message === 'string' ? [message, ...details].join('; ') : text;
  } catch {
    return text;
  }
}
