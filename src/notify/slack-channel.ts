import { resolveSecretRef } from '../base/secret.ts';
import { type Channel, type ChannelEnvironment, redact, type SlackSettings } from './channel.ts';
import { postJson, refusal } from './post-json.ts';
import { slackMessage } from './slack-message.ts';

/**
 * Slack's incoming webhooks, and what speaks like them (Mattermost, Rocket.Chat).
 * @source https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors
 */
export function openSlackChannel(settings: SlackSettings, { env, resolveHost }: ChannelEnvironment): Channel {
  return {
    name: settings.name,
    type: 'slack',
    destination: 'incoming webhook',
    hears: settings.hears,
    async deliver(message, signal) {
      const url = (await resolveSecretRef(settings.webhook, { env, signal })).reveal();
      const body = JSON.stringify(slackMessage(message));
      const reply = await postJson(url, { body }, { ...settings, signal, resolveHost });
      // Anything else that answers 200, a login page say, has not taken the message.
      if (reply.status === 200 && reply.text.trim() === 'ok') return { problem: null };
      throw refusal(new URL(url).host, reply, redact(reply.text, [url, new URL(url).pathname]));
    },
  };
}
