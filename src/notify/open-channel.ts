import type { Channel, ChannelEnvironment, ChannelSettings } from './channel.ts';
import { openEmailChannel } from './email-channel.ts';
import { openPagerDutyChannel } from './pagerduty-channel.ts';
import { openSlackChannel } from './slack-channel.ts';
import { openWebhookChannel } from './webhook-channel.ts';

/** The channel of its settings. Nothing is connected or read before something is delivered. */
export function openChannel(settings: ChannelSettings, environment: ChannelEnvironment): Channel {
  switch (settings.type) {
    case 'slack':
      return openSlackChannel(settings, environment);
    case 'pagerduty':
      return openPagerDutyChannel(settings, environment);
    case 'email':
      return openEmailChannel(settings, environment);
    case 'webhook':
      return openWebhookChannel(settings, environment);
  }
}
