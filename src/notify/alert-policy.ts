import type { Channel } from './channel.ts';
import { actionOf, isAtLeast, type Notification, type Severity } from './notification.ts';

/** How often people hear that all is well. */
export const successFrequencies = ['never', 'always', 'daily', 'weekly', 'monthly'] as const;
export type SuccessFrequency = (typeof successFrequencies)[number];

/** Who hears what. A null list means every channel. */
export interface AlertPolicy {
  readonly onIncident: { readonly channels: readonly string[] | null };
  /** A failure is as severe as this, unless whoever tells of it knows better. */
  readonly onFailure: { readonly channels: readonly string[] | null; readonly severity: Severity };
  readonly onSuccess: {
    readonly channels: readonly string[] | null;
    readonly severity: Severity;
    readonly frequency: SuccessFrequency;
  };
  /** What is still wrong is told again after this. */
  readonly repeatAfterMs: number;
  /** More than this in an hour waits, unless it is critical. */
  readonly mostPerHour: number;
}

export interface Route {
  readonly channels: readonly Channel[];
  /** Names of the policy that no channel has. */
  readonly unknown: readonly string[];
}

/**
 * The channels a notification goes to. Names that no channel has are left out and reported; when none is left, everybody
 * hears it: a slip in a list must not silence an alert.
 */
export function routeNotification(
  channels: readonly Channel[],
  policy: AlertPolicy,
  notification: Notification,
): Route {
  const list = listFor(policy, notification);
  const unknown = (list ?? []).filter(name => channels.every(channel => channel.name !== name));
  const named = list === null ? channels : channels.filter(channel => list.includes(channel.name));
  const isSlip = named.length === 0 && unknown.length > 0;
  return { channels: (isSlip ? channels : named).filter(channel => hears(channel, notification)), unknown };
}

function listFor(policy: AlertPolicy, { kind }: Notification): readonly string[] | null {
  if (kind === 'test') return null;
  if (kind === 'failure') return policy.onFailure.channels;
  return kind === 'success' || kind === 'summary' ? policy.onSuccess.channels : policy.onIncident.channels;
}

/** The end of a thing is as important as its beginning: who heard of that, hears of its end, whatever its severity. */
function hears({ hears }: Channel, notification: Notification): boolean {
  if (notification.kind === 'test') return true;
  const isKind = hears.kinds === null || hears.kinds.includes(notification.kind);
  return (
    isKind && (actionOf(notification) !== 'trigger' || isAtLeast(notification.severity, hears.minSeverity))
  );
}
