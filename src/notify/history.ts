import { createHash } from 'node:crypto';
import type { AlertPolicy } from './alert-policy.ts';
import { actionOf, isAtLeast, type Notification, type Severity, threadOf } from './notification.ts';

/** What channels were told, as far as later notifications depend on it: a small file that outlives the process. */
export interface History {
  readonly version: 1;
  /** By channel and thread. */
  readonly told: Readonly<Record<string, Told>>;
  /** By channel: when something was sent in the last hour, or is to be sent. */
  readonly slotsMs: Readonly<Record<string, readonly number[]>>;
  /** By channel: how its deliveries went. */
  readonly deliveries: Readonly<Record<string, DeliveryRecord>>;
  /** By instance: until when successes were summarised. */
  readonly summarizedMs: Readonly<Record<string, number>>;
}

interface Told {
  /** When it was sent; ahead of now for what is deferred. */
  readonly atMs: number;
  readonly isDeferred: boolean;
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
  slotsMs: {},
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
    const known = decideKnown(told, notification, { nowMs, policy });
    if (known !== null) return known;
  }
  const slots = slotsOf(history, channel, nowMs);
  if (notification.severity === 'critical' || slots.length < policy.mostPerHour) return { act: 'send' };
  const untilMs = Math.max(nowMs, (slots[slots.length - policy.mostPerHour] ?? nowMs) + HOUR_MS);
  return { act: 'defer', untilMs, why: `more than ${policy.mostPerHour} notifications in an hour` };
}

/** Of what was told before and is no worse now; null when it is to be told again. */
function decideKnown(
  told: Told,
  notification: Notification,
  { nowMs, policy }: { readonly nowMs: number; readonly policy: AlertPolicy },
): Decision | null {
  // Only an incident unfolds; a failure that goes on says the same in other words every time.
  const isNews = isUnfolding(notification) && told.digest !== digestOf(notification);
  const sinceMs = nowMs - told.atMs;
  if (sinceMs < 0) {
    // A clock that was set back must not silence anything: what is far ahead was told long ago.
    if (-sinceMs > FORGET_AFTER_MS) return null;
    // In the place of what waits already: updates that keep coming must not put each other off for ever.
    if (isNews) return { act: 'defer', untilMs: told.atMs, why: 'an update waits for its turn' };
    return told.isDeferred ? { act: 'suppress', why: 'it waits for its turn already' } : null;
  }
  if (!isNews) return sinceMs < policy.repeatAfterMs ? { act: 'suppress', why: 'it was told already' } : null;
  if (sinceMs >= UPDATE_EVERY_MS) return null;
  return { act: 'defer', untilMs: told.atMs + UPDATE_EVERY_MS, why: 'an update was sent just now' };
}

/**
 * The history after a channel was, or surely will be, told: what lies in the outbox counts as told, at the time it is to
 * be sent.
 */
export function withTold(
  history: History,
  notification: Notification,
  {
    channel,
    nowMs,
    decision,
  }: Moment & { readonly decision: Exclude<Decision, { readonly act: 'suppress' }> },
): History {
  if (notification.kind === 'test') return history;
  const key = threadKey(channel, notification);
  const { [key]: before, ...others } = history.told;
  const atMs = decision.act === 'defer' ? decision.untilMs : nowMs;
  const told = toldAfter(before, notification, { atMs, isDeferred: decision.act === 'defer' });
  const kept = Object.entries({ ...others, ...(told === undefined ? {} : { [key]: told }) })
    .filter(([, each]) => nowMs - each.atMs < FORGET_AFTER_MS)
    .slice(-MOST_TOLD);
  const hasSlot = before?.isDeferred === true && before.atMs === atMs;
  const slots = [...slotsOf(history, channel, nowMs), ...(hasSlot ? [] : [atMs])].sort((a, b) => a - b);
  return {
    ...history,
    told: Object.fromEntries(kept),
    slotsMs: { ...history.slotsMs, [channel]: slots.slice(-MOST_TOLD) },
  };
}

function toldAfter(
  before: Told | undefined,
  notification: Notification,
  sending: Pick<Told, 'atMs' | 'isDeferred'>,
): Told | undefined {
  const action = actionOf(notification);
  if (action === 'resolve') return undefined;
  if (action === 'acknowledge') return before && { ...before, isAcknowledged: true };
  return {
    ...sending,
    severity: notification.severity,
    digest: digestOf(notification),
    isAcknowledged: false,
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

/** When a channel was last told about something, as Unix time in milliseconds; null: never, or it still waits. */
export function toldAt(history: History, channel: string, dedupKey: string): number | null {
  const told = history.told[`${channel} ${hashOf(dedupKey)}`];
  return told === undefined || told.isDeferred ? null : told.atMs;
}

/** When something was sent in the last hour, or is to be sent, in order. */
function slotsOf(history: History, channel: string, nowMs: number): readonly number[] {
  return (history.slotsMs[channel] ?? []).filter(at => at > nowMs - HOUR_MS && at < nowMs + FORGET_AFTER_MS);
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
