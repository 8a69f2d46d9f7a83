import { routeNotification } from './alert-policy.ts';
import type { Alerting } from './alerting.ts';
import type { Channel, Hears } from './channel.ts';
import { deliveryOf, emptyHistory } from './history.ts';
import { readHistory } from './history-file.ts';
import { notificationKinds } from './notification.ts';
import { listOutbox } from './outbox.ts';

export interface ChannelStatus {
  readonly name: string;
  readonly type: Channel['type'];
  readonly destination: string;
  readonly hears: Hears;
  /** In the outbox. */
  readonly waiting: number;
  /** ISO 8601; null: never, as far as is known. */
  readonly deliveredAt: string | null;
  readonly failedAt: string | null;
  readonly problem: string | null;
  readonly dropped: number;
}

export interface AlertingStatus {
  readonly channels: readonly ChannelStatus[];
  /** What is wrong with the configuration, for people. */
  readonly problems: readonly string[];
}

/** Who is told, and how that went lately. @throws as Node does when the outbox cannot be read */
export async function readAlertingStatus(alerting: Alerting, nowMs = Date.now()): Promise<AlertingStatus> {
  const { channels, directory } = alerting;
  const history = directory === null ? emptyHistory : await readHistory(directory);
  const statuses: ChannelStatus[] = [];
  for (const { name, type, destination, hears } of channels) {
    const delivery = deliveryOf(history, name);
    statuses.push({
      name,
      type,
      destination,
      hears,
      waiting: directory === null ? 0 : (await listOutbox(directory, name, nowMs)).length,
      deliveredAt: isoOf(delivery.deliveredMs),
      failedAt: isoOf(delivery.failedMs),
      problem: delivery.problem,
      dropped: delivery.dropped,
    });
  }
  return { channels: statuses, problems: findAlertingProblems(alerting) };
}

function isoOf(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}

/** Names without a channel, and alerts that nobody would hear. */
export function findAlertingProblems({ channels, policy }: Alerting): readonly string[] {
  if (channels.length === 0) return ['no channel is configured: nobody is told anything'];
  const unknown = new Set<string>();
  const unheard: string[] = [];
  for (const kind of notificationKinds) {
    const severity = kind === 'failure' ? policy.onFailure.severity : 'critical';
    const probe = { kind, severity, instance: '', title: '', facts: [], commands: [], dedupKey: '' } as const;
    const route = routeNotification(channels, policy, probe);
    for (const name of route.unknown) unknown.add(name);
    if (route.channels.length === 0 && (kind === 'incident' || kind === 'failure'))
      unheard.push(`no channel hears of ${kind === 'incident' ? 'incidents' : 'failures'}`);
  }
  return [
    ...[...unknown].map(name => `alerts are to go to '${name}', and there is no such channel`),
    ...unheard,
  ];
}
