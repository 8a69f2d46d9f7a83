import { messageOf } from '../base/errors.ts';
import type { Alerting, NotifyOptions } from './alerting.ts';
import { afterFailure, attemptDelivery, messageOfEntry } from './attempt-delivery.ts';
import type { Channel } from './channel.ts';
import { withDelivery } from './history.ts';
import { changeHistory } from './history-file.ts';
import { type Severity, threadOf } from './notification.ts';
import { giveBack, hold, type ListedEntry, listOutbox, removeEntry } from './outbox.ts';

const TIMEOUT_MS = 60_000;
const HOLD_MS = 30_000;
/** A channel that fails so often in a row is down: the others of its entries wait. */
const FAILURES_IN_A_ROW = 3;
const DAY_MS = 86_400_000;
const KEEP_MS: Readonly<Record<Severity, number>> = {
  info: DAY_MS,
  warning: 3 * DAY_MS,
  critical: 7 * DAY_MS,
};

export interface FlushResult {
  readonly delivered: number;
  /** Still in the outbox. */
  readonly waiting: number;
  /** Given up: nobody needs to hear of it any more. */
  readonly dropped: number;
  readonly problems: readonly string[];
}

/**
 * Delivers what lies in the outbox and is due, of every channel at the same time and in the order it was raised. The
 * agent calls it every few seconds; it costs a listing of a directory when there is nothing to do. It does not throw.
 */
export async function flushOutbox(
  { channels, directory }: Alerting,
  { signal, timeoutMs = TIMEOUT_MS, now = Date.now }: NotifyOptions,
): Promise<FlushResult> {
  const nothing: FlushResult = { delivered: 0, waiting: 0, dropped: 0, problems: [] };
  if (directory === null) return nothing;
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const flushed = await Promise.all(
    channels.map(async channel => {
      const result = await flushChannel(channel, { directory, now, signal: deadline }).catch(
        (error: unknown) => ({ ...nothing, problems: [`unable to use the outbox: ${messageOf(error)}`] }),
      );
      return { channel: channel.name, result };
    }),
  );
  const changed = flushed.filter(
    ({ result }) => result.delivered + result.dropped + result.problems.length > 0,
  );
  if (changed.length > 0) {
    await changeHistory(directory, before => ({
      history: changed.reduce(
        (history, { channel, result }) =>
          withDelivery(history, channel, {
            nowMs: now(),
            problem: result.problems.at(-1) ?? null,
            dropped: result.dropped,
          }),
        before,
      ),
      result: undefined,
    }));
  }
  return flushed.reduce<FlushResult>(
    (sum, { channel, result }) => ({
      delivered: sum.delivered + result.delivered,
      waiting: sum.waiting + result.waiting,
      dropped: sum.dropped + result.dropped,
      problems: [...sum.problems, ...result.problems.map(text => `channel '${channel}': ${text}`)],
    }),
    nothing,
  );
}

interface FlushContext {
  readonly directory: string;
  readonly now: () => number;
  readonly signal: AbortSignal;
}

async function flushChannel(channel: Channel, context: FlushContext): Promise<FlushResult> {
  const { directory, now, signal } = context;
  let delivered = 0;
  let waiting = 0;
  let dropped = 0;
  let failures = 0;
  const problems: string[] = [];
  /** Threads of which an earlier notification is still there. */
  const blocked = new Set<string>();
  for (const listed of await listOutbox(directory, channel.name, now())) {
    const thread = threadOf(listed.entry.notification);
    const isReady = isDue(listed, now()) && !blocked.has(thread) && failures < FAILURES_IN_A_ROW;
    const outcome = isReady && !signal.aborted ? await deliverEntry(channel, listed, context) : 'waits';
    if (outcome === 'delivered') {
      delivered += 1;
      failures = 0;
    } else if (outcome === 'expired') dropped += 1;
    else {
      waiting += 1;
      blocked.add(thread);
      if (outcome === 'waits') continue;
      failures += 1;
      problems.push(outcome.failed);
    }
  }
  return { delivered, waiting, dropped, problems };
}

function isDue({ entry, heldUntilMs }: ListedEntry, nowMs: number): boolean {
  // A clock that was set back: what was due within the hour before is due.
  return heldUntilMs === null && (entry.dueMs <= nowMs || entry.createdMs > nowMs);
}

async function deliverEntry(
  channel: Channel,
  listed: ListedEntry,
  { now, signal }: FlushContext,
): Promise<'delivered' | 'expired' | 'waits' | { readonly failed: string }> {
  const held = await hold(listed, now() + HOLD_MS);
  if (held === null) return 'waits';
  const { entry } = held;
  if (now() - entry.createdMs > KEEP_MS[entry.notification.severity]) {
    await removeEntry(held);
    return 'expired';
  }
  const attempt = await attemptDelivery(channel, messageOfEntry(entry, now()), signal);
  if (attempt.isDelivered) {
    await removeEntry(held);
    return 'delivered';
  }
  await giveBack(held, afterFailure(entry, attempt, now()));
  return { failed: attempt.problem };
}
