import { randomUUID } from 'node:crypto';
import { routeNotification } from './alert-policy.ts';
import type { Alerting, NotifyOptions } from './alerting.ts';
import { type Decision, decide, withDelivery, withTold } from './history.ts';
import { changeHistory } from './history-file.ts';
import { actionOf, type Notification, tidyNotification } from './notification.ts';
import { type Told, tellChannel } from './tell-channel.ts';

const TIMEOUT_MS = 10_000;

export interface NotifyResult {
  /** The same for every channel: a receiver knows a repetition by it. */
  readonly id: string;
  readonly outcomes: readonly ChannelOutcome[];
  /** Sentences for people: what did not arrive and why, names of channels that do not exist. */
  readonly problems: readonly string[];
}

export interface ChannelOutcome {
  readonly channel: string;
  /**
   * `queued`: it lies in the outbox and is delivered later. `deferred`: the same, on purpose. `suppressed`: they know
   * already. `lost`: it was neither delivered nor could it be kept.
   */
  readonly state: 'delivered' | 'queued' | 'deferred' | 'suppressed' | 'lost';
  /** Why it is not delivered, or what is wrong although it is. */
  readonly problem: string | null;
  readonly seconds: number;
}

/**
 * Tells people. Every channel is told by itself and at the same time; what is to be told is on the disk before the first
 * attempt, so that neither a missing network nor the end of this process loses it.
 *
 * It never throws and takes no longer than `timeoutMs` (10 s unless given), whatever the channels do: an alert must not
 * hold up what it tells about. An aborted signal ends the attempts, not the notification, which stays in the outbox.
 */
export async function notify(
  alerting: Alerting,
  notification: Notification,
  { signal, timeoutMs = TIMEOUT_MS, now = Date.now }: NotifyOptions,
): Promise<NotifyResult> {
  const id = randomUUID();
  const tidy = tidyNotification(notification);
  const { policy, directory } = alerting;
  const route = routeNotification(alerting.channels, policy, tidy);
  const problems = route.unknown.map(name => `there is no channel '${name}', which alerts are to go to`);
  if (isKeptForSummary(tidy, alerting) || route.channels.length === 0) return { id, outcomes: [], problems };
  const nowMs = now();
  const names = route.channels.map(channel => channel.name);
  const decisions = await changeHistory(directory, before => {
    let history = before;
    const result = new Map<string, Decision>();
    for (const channel of names) {
      const decision = decide(history, tidy, { channel, nowMs, policy });
      result.set(channel, decision);
      if (decision.act !== 'suppress') history = withTold(history, tidy, { channel, nowMs, decision });
    }
    return { history, result };
  });
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const told = await Promise.all(
    route.channels.map(async channel => {
      const startedAt = performance.now();
      const decision = decisions.get(channel.name) ?? { act: 'send' };
      const context = { id, directory, nowMs, now, timeoutMs, signal: deadline };
      const outcome = await tellChannel(channel, tidy, decision, context);
      return { channel: channel.name, ...outcome, seconds: (performance.now() - startedAt) / 1000 };
    }),
  );
  await recordDeliveries(directory, told, now());
  return {
    id,
    outcomes: told.map(({ channel, state, problem, seconds }) => ({ channel, state, problem, seconds })),
    problems: [...problems, ...told.flatMap(problemsOf)],
  };
}

/** One thing that went well is told by itself only where that is wanted. */
function isKeptForSummary({ kind, ...rest }: Notification, { policy }: Alerting): boolean {
  const isFirst = actionOf({ kind, ...rest }) === 'trigger';
  return kind === 'success' && isFirst && policy.onSuccess.frequency !== 'always';
}

async function recordDeliveries(
  directory: string | null,
  told: readonly ({ readonly channel: string } & Told)[],
  nowMs: number,
): Promise<void> {
  const tried = told.filter(({ state }) => state !== 'suppressed' && state !== 'deferred');
  if (tried.length === 0) return;
  await changeHistory(directory, before => ({
    history: tried.reduce((history, { channel, state, problem, dropped }) => {
      const failed = state === 'delivered' ? null : problem;
      return withDelivery(history, channel, { nowMs, problem: failed, dropped });
    }, before),
    result: undefined,
  }));
}

function problemsOf({
  channel,
  state,
  problem,
  dropped,
}: Told & { readonly channel: string }): readonly string[] {
  const isWrong = state === 'queued' || state === 'lost' || (state === 'delivered' && problem !== null);
  return [
    ...(isWrong ? [`channel '${channel}': ${problem ?? 'it was not delivered'}`] : []),
    ...(dropped > 0 ? [`channel '${channel}': its outbox is full, ${dropped} were given up`] : []),
  ];
}
