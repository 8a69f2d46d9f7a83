import { createHash } from 'node:crypto';
import type { AlertPolicy } from './alert-policy.ts';
import { actionOf, isAtLeast, type Notification, type Severity, threadOf } from './notification.ts';

/** What channels were told, as far as later notifications depend on it: a small file that outlives the process. */
export interface History {
  readonly version: 1;
  /** By channel and thread. */
  readonly told: Readonly<Record<string, Told>>;
  /** By channel: when something was sent in the last hour. */
  readonly recentMs: Readonly<Record<string, readonly number[]>>;
  /** By channel: how its deliveries went. */
  readonly deliveries: Readonly<Record<string, DeliveryRecord>>;
  /** By instance: until when successes were summarised. */
  readonly summarizedMs: Readonly<Record<string, number>>;
}

interface Told {
  readonly atMs: number;
  readonly severity: Severity;
  readonly digest: string;
  readonly isAcknowledged: boolean;
}

export interface DeliveryRecord {
  readonly deliveredMs: number | null;
  readonly failedMs: number | null;
  /** What went wrong the last time; null when nothing has since the last delivery. */
  readonly problem: string | null;
  /** Given up for age, or for want of room. */
  readonly dropped: number;
}

export const emptyHistory: History = {
  version: 1,
  told: {},
  recentMs: {},
  deliveries: {},
  summarizedMs: {},
};

const noDelivery: DeliveryRecord = { deliveredMs: null, failedMs: null, problem: null, dropped: 0 };

/** Updates of one incident are this far apart, unless it became worse. */
const UPDATE_EVERY_MS = 60_000;
const HOUR_MS = 3_600_000;
const FORGET_AFTER_MS = 30 * 24 * HOUR_MS;
const MOST_TOLD = 2000;

export type Decision =
  | { readonly act: 'send' }
  | { readonly act: 'defer'; readonly untilMs: number; readonly why: string }
  | { readonly act: 'suppress'; readonly why: string };

interface Moment {
  readonly channel: string;
  readonly nowMs: number;
}

/** Whether a channel is told now, later, or not at all. */
export function decide(
  history: History,
  notification: Notification,
  { channel, nowMs, policy }: Moment & { readonly policy: AlertPolicy },
): Decision {
  if (notification.kind === 'test') return { act: 'send' };
  const told = history.told[threadKey(channel, notification)];
  if (actionOf(notification) !== 'trigger') {
    if (told === undefined) return { act: 'suppress', why: 'it was never told here' };
    const isAgain = actionOf(notification) === 'acknowledge' && told.isAcknowledged;
    return isAgain ? { act: 'suppress', why: 'it was acknowledged already' } : { act: 'send' };
  }
  if (told !== undefined && isAtLeast(told.severity, notification.severity)) {
    const sinceMs = nowMs - told.atMs;
    // Only an incident unfolds; a failure that goes on says the same in other words every time.
    const isNews = isUnfolding(notification) && told.digest !== digestOf(notification);
    // A clock that was set back must not silence anything: a time that is to come counts as long ago.
    if (!isNews && sinceMs >= 0 && sinceMs < policy.repeatAfterMs)
      return { act: 'suppress', why: 'it was told already' };
    if (isNews && sinceMs >= 0 && sinceMs < UPDATE_EVERY_MS)
      return { act: 'defer', untilMs: told.atMs + UPDATE_EVERY_MS, why: 'an update was sent just now' };
  }
  const recent = recentOf(history, channel, nowMs);
  if (notification.severity === 'critical' || recent.length < policy.mostPerHour) return { act: 'send' };
  const untilMs = (recent[recent.length - policy.mostPerHour] ?? nowMs) + HOUR_MS;
  return { act: 'defer', untilMs, why: `more than ${policy.mostPerHour} notifications in an hour` };
}

/** The history after a channel was, or surely will be, told: what lies in the outbox counts as told. */
export function withTold(history: History, notification: Notification, { channel, nowMs }: Moment): History {
  if (notification.kind === 'test') return history;
  const key = threadKey(channel, notification);
  const { [key]: before, ...others } = history.told;
  const action = actionOf(notification);
  const told: Told | undefined =
    action === 'resolve'
      ? undefined
      : action === 'acknowledge'
        ? before && { ...before, isAcknowledged: true }
        : {
            atMs: nowMs,
            severity: notification.severity,
            digest: digestOf(notification),
            isAcknowledged: false,
          };
  const kept = Object.entries({ ...others, ...(told === undefined ? {} : { [key]: told }) })
    .filter(([, each]) => nowMs - each.atMs < FORGET_AFTER_MS)
    .slice(-MOST_TOLD);
  const recent = [...recentOf(history, channel, nowMs), nowMs];
  return {
    ...history,
    told: Object.fromEntries(kept),
    recentMs: { ...history.recentMs, [channel]: recent.slice(-1000) },
  };
}

export function withDelivery(
  history: History,
  channel: string,
  outcome: { readonly nowMs: number; readonly problem: string | null; readonly dropped?: number },
): History {
  const before = history.deliveries[channel] ?? noDelivery;
  const after: DeliveryRecord = {
    deliveredMs: outcome.problem === null ? outcome.nowMs : before.deliveredMs,
    failedMs: outcome.problem === null ? before.failedMs : outcome.nowMs,
    problem: outcome.problem,
    dropped: before.dropped + (outcome.dropped ?? 0),
  };
  return { ...history, deliveries: { ...history.deliveries, [channel]: after } };
}

export function deliveryOf(history: History, channel: string): DeliveryRecord {
  return history.deliveries[channel] ?? noDelivery;
}

function recentOf(history: History, channel: string, nowMs: number): readonly number[] {
  return (history.recentMs[channel] ?? []).filter(at => at <= nowMs && nowMs - at < HOUR_MS);
}

function isUnfolding({ kind }: Notification): boolean {
  return kind === 'incident' || kind === 'emergency';
}

function threadKey(channel: string, notification: Notification): string {
  return `${channel} ${hashOf(threadOf(notification))}`;
}

function digestOf({ title, facts }: Notification): string {
  return hashOf(JSON.stringify([title, facts]));
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}
