import { createHash } from 'node:crypto';
import { actionOf, cut, type Message, threadOf } from './notification.ts';
import { briefTitle, shownFacts } from './wording.ts';

/** @source https://developer.pagerduty.com/docs/events-api-v2/trigger-events/ */
const LONGEST_SUMMARY = 1024;
const LONGEST_DEDUP_KEY = 255;

/** An event of the Events API v2. */
export type PagerDutyEvent = {
  readonly routing_key: string;
  readonly dedup_key: string;
} & (
  | { readonly event_action: 'acknowledge' | 'resolve' }
  | {
      readonly event_action: 'trigger';
      readonly client: 'aishell';
      readonly payload: {
        readonly summary: string;
        readonly source: string;
        readonly severity: 'critical' | 'error' | 'warning' | 'info';
        readonly timestamp: string;
        readonly component: string;
        readonly class: string;
        readonly custom_details: Readonly<Record<string, unknown>>;
      };
    }
);

/**
 * A notification as an event. Acknowledging and resolving carry nothing but the key: PagerDuty keeps what was told.
 * @source https://developer.pagerduty.com/docs/events-api-v2/overview/
 */
export function pagerDutyEvent(message: Message, routingKey: string): PagerDutyEvent {
  const { notification, raisedAt } = message;
  const { instance, severity, kind, incidentId, commands } = notification;
  const action = actionOf(notification);
  const key = { routing_key: routingKey, dedup_key: dedupKeyOf(threadOf(notification)) };
  if (action !== 'trigger') return { ...key, event_action: action };
  return {
    ...key,
    event_action: 'trigger',
    client: 'aishell',
    payload: {
      summary: cut(`${instance}: ${briefTitle(notification)}`, LONGEST_SUMMARY),
      source: instance,
      severity,
      timestamp: raisedAt.toISOString(),
      component: 'postgresql',
      class: kind,
      custom_details: {
        ...Object.fromEntries(shownFacts(message)),
        ...(incidentId === undefined ? {} : { Incident: incidentId }),
        ...(commands.length === 0
          ? {}
          : { Commands: commands.map(({ title, command }) => `${title}: ${command}`) }),
      },
    },
  };
}

/** A key of any length within the 255 characters that are allowed; different keys stay different. */
function dedupKeyOf(key: string): string {
  return key.length <= LONGEST_DEDUP_KEY ? key : createHash('sha256').update(key).digest('hex');
}
