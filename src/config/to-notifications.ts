import { parseDuration } from '../base/duration.ts';
import type { AlertPolicy } from '../notify/alert-policy.ts';
import type { ChannelSettings } from '../notify/channel.ts';
import type { NotificationsConfig } from './config.ts';
import type { RawAlerts, RawNotifications } from './notifications-schema.ts';

const PAGERDUTY_URL = 'https://events.pagerduty.com/v2/enqueue';
const mailPorts = { tls: 465, starttls: 587, none: 25 } as const;

export function toNotifications(
  raw: RawNotifications | undefined,
  alerts: RawAlerts | undefined,
): NotificationsConfig {
  return Object.freeze({
    channels: Object.freeze(
      Object.entries(raw?.channels ?? {}).map(([name, channel]) => Object.freeze(toChannel(name, channel))),
    ),
    policy: toAlertPolicy(alerts, raw),
    directory: raw?.directory ?? null,
  });
}

/** Who is told what, by one section `alerts`. */
export function toAlertPolicy(
  alerts: RawAlerts | undefined,
  notifications: Pick<RawNotifications, 'repeat_after' | 'most_per_hour'> | undefined,
): AlertPolicy {
  return Object.freeze({
    onIncident: { channels: alerts?.on_incident?.channels ?? null },
    onFailure: {
      channels: alerts?.on_failure?.channels ?? null,
      severity: alerts?.on_failure?.severity ?? 'warning',
    },
    onSuccess: {
      channels: alerts?.on_success?.channels ?? null,
      severity: alerts?.on_success?.severity ?? 'info',
      frequency: alerts?.on_success?.frequency ?? 'weekly',
    },
    repeatAfterMs: parseDuration(notifications?.repeat_after ?? '4h') * 1000,
    mostPerHour: notifications?.most_per_hour ?? 60,
  });
}

function toChannel(name: string, raw: NonNullable<RawNotifications['channels']>[string]): ChannelSettings {
  const hears = {
    // Nobody wants to be woken to hear that all is well.
    minSeverity: raw.min_severity ?? (raw.type === 'pagerduty' ? 'warning' : 'info'),
    kinds: raw.kinds ?? null,
  } as const;
  if (raw.type === 'email') {
    const security = raw.security ?? 'starttls';
    return {
      name,
      type: 'email',
      hears,
      host: raw.host,
      port: raw.port ?? mailPorts[security],
      security,
      allowPlaintext: raw.allow_plaintext ?? false,
      ca: raw.ca ?? null,
      user: raw.user ?? null,
      password: raw.password ?? null,
      from: raw.from,
      to: raw.to,
    };
  }
  const common = {
    name,
    hears,
    allowPrivate: raw.allow_private ?? false,
    allowHttp: raw.allow_http ?? false,
    ca: raw.ca ?? null,
  };
  if (raw.type === 'slack') return { ...common, type: 'slack', webhook: raw.webhook };
  if (raw.type === 'webhook') return { ...common, type: 'webhook', url: raw.url, secret: raw.secret };
  return { ...common, type: 'pagerduty', routingKey: raw.routing_key, url: raw.url ?? PAGERDUTY_URL };
}
