import { delay } from '../base/abort.ts';
import { messageOf } from '../base/errors.ts';
import { type Attempt, afterFailure, attemptDelivery, messageOfEntry } from './attempt-delivery.ts';
import type { Channel } from './channel.ts';
import type { Decision } from './history.ts';
import { actionOf, type Notification, severities, threadOf } from './notification.ts';
import {
  giveBack,
  type HeldEntry,
  hold,
  type ListedEntry,
  listOutbox,
  type OutboxEntry,
  putHeld,
  removeEntry,
} from './outbox.ts';

/** Longer than the caller waits: who died with an entry gives it back so much later. */
const HOLD_MARGIN_MS = 15_000;
const PAUSES_MS = [250, 1000, 3000];
const LOOK_AGAIN_MS = 100;
const MOST_ENTRIES = 500;

export interface Told {
  readonly state: 'delivered' | 'queued' | 'deferred' | 'suppressed' | 'lost';
  readonly problem: string | null;
  /** Given up to make room. */
  readonly dropped: number;
}

interface TellContext {
  readonly id: string;
  readonly directory: string | null;
  readonly nowMs: number;
  readonly now: () => number;
  readonly timeoutMs: number;
  /** Aborts when the time is over. */
  readonly signal: AbortSignal;
}

/** Keeps the notification for a channel, then delivers it as often as it takes and the time allows. */
export async function tellChannel(
  channel: Channel,
  notification: Notification,
  decision: Decision,
  context: TellContext,
): Promise<Told> {
  if (decision.act === 'suppress') return { state: 'suppressed', problem: decision.why, dropped: 0 };
  const kept = await keep(channel, notification, context);
  const { held, dropped } = kept;
  try {
    // It takes the place of what it replaces: its own would put a stream of updates off for ever.
    const dueMs = decision.act === 'defer' ? Math.min(decision.untilMs, kept.placeMs) : context.nowMs;
    if (decision.act === 'defer' && held !== null && dueMs > context.nowMs) {
      await giveBack(held, { ...held.entry, dueMs });
      return { state: 'deferred', problem: decision.why, dropped };
    }
    if (held !== null && !(await deliverEarlier(channel, held.entry, context))) {
      await giveBack(held, held.entry);
      return { state: 'queued', problem: 'what was told before it is not delivered yet', dropped };
    }
    const attempt = await deliverInTime(channel, kept.entry, context);
    if (attempt.isDelivered) {
      if (held !== null) await removeEntry(held);
      return { state: 'delivered', problem: attempt.problem ?? kept.problem, dropped };
    }
    if (held === null) return { state: 'lost', problem: `${attempt.problem}; ${kept.problem}`, dropped };
    await giveBack(held, afterFailure(held.entry, attempt, context.now()));
    return { state: 'queued', problem: attempt.problem, dropped };
  } catch (error) {
    // The disk failed under the outbox: the entry is there, held, or it is not.
    return { state: 'lost', problem: `unable to use the outbox: ${messageOf(error)}`, dropped };
  }
}

interface Kept {
  readonly entry: OutboxEntry;
  /** Null: it could not be kept, `problem` says why. */
  readonly held: HeldEntry | null;
  readonly problem: string | null;
  readonly dropped: number;
  /** When what it replaces was to be sent. */
  readonly placeMs: number;
}

/** Writes the entry, which then stands for earlier ones of its thread that nobody has seen yet. */
async function keep(channel: Channel, notification: Notification, context: TellContext): Promise<Kept> {
  const { id, directory, nowMs, timeoutMs } = context;
  const entry: OutboxEntry = {
    version: 1,
    id,
    channel: channel.name,
    createdMs: nowMs,
    raisedMs: nowMs,
    dueMs: nowMs,
    attempts: 0,
    lastError: null,
    notification,
  };
  const notKept = { entry, held: null, dropped: 0, placeMs: Number.POSITIVE_INFINITY };
  if (directory === null) return { ...notKept, problem: 'there is no place for an outbox' };
  try {
    const waiting = await listOutbox(directory, channel.name, nowMs);
    const replaced = waiting.filter(
      each => actionOf(notification) === 'trigger' && isReplaced(each, notification),
    );
    const raisedMs = Math.min(nowMs, ...replaced.map(each => each.entry.raisedMs));
    const held = await putHeld(directory, { ...entry, raisedMs }, nowMs + timeoutMs + HOLD_MARGIN_MS);
    // Only now that the new one is on the disk.
    await giveUp(replaced, nowMs);
    const surplus = leastImportant(waiting.filter(each => !replaced.includes(each)));
    const placeMs = Math.min(
      ...replaced.filter(each => each.entry.attempts === 0).map(each => each.entry.dueMs),
    );
    const dropped = await giveUp(surplus, nowMs);
    return { entry: held.entry, held, problem: null, dropped, placeMs };
  } catch (error) {
    return { ...notKept, problem: `unable to keep it in the outbox: ${messageOf(error)}` };
  }
}

function isReplaced({ entry, heldUntilMs }: ListedEntry, notification: Notification): boolean {
  const isSameThread = threadOf(entry.notification) === threadOf(notification);
  return heldUntilMs === null && isSameThread && actionOf(entry.notification) === 'trigger';
}

/** What has to go so that one more has room: the least severe first, of these the oldest. */
function leastImportant(waiting: readonly ListedEntry[]): readonly ListedEntry[] {
  const surplus = waiting.length + 1 - MOST_ENTRIES;
  if (surplus <= 0) return [];
  const rank = ({ entry }: ListedEntry): number => severities.indexOf(entry.notification.severity);
  return waiting
    .filter(({ heldUntilMs }) => heldUntilMs === null)
    .sort((a, b) => rank(a) - rank(b))
    .slice(0, surplus);
}

async function giveUp(listed: readonly ListedEntry[], nowMs: number): Promise<number> {
  let count = 0;
  for (const each of listed) {
    const held = await hold(each, nowMs + HOLD_MARGIN_MS);
    if (held === null) continue;
    await removeEntry(held);
    count += 1;
  }
  return count;
}

/** Delivers what was told before of the same thing: an end must not arrive before its beginning. False: it is not delivered. */
async function deliverEarlier(channel: Channel, own: OutboxEntry, context: TellContext): Promise<boolean> {
  const { directory, signal, now, timeoutMs } = context;
  if (directory === null || actionOf(own.notification) === 'trigger') return true;
  const earlier = async (): Promise<ListedEntry | undefined> =>
    (await listOutbox(directory, channel.name, now())).find(
      ({ entry }) => entry.id !== own.id && threadOf(entry.notification) === threadOf(own.notification),
    );
  for (let found = await earlier(); found !== undefined; found = await earlier()) {
    if (signal.aborted) return false;
    const held = found.heldUntilMs === null ? await hold(found, now() + timeoutMs + HOLD_MARGIN_MS) : null;
    if (held === null) {
      // Another process delivers it at this moment.
      await delay(LOOK_AGAIN_MS, signal).catch(() => undefined);
      continue;
    }
    const attempt = await deliverInTime(channel, held.entry, context);
    if (!attempt.isDelivered) {
      await giveBack(held, afterFailure(held.entry, attempt, now()));
      return false;
    }
    await removeEntry(held);
  }
  return true;
}

/** Attempts with growing pauses, until one succeeds, trying is of no use, or the time is over. */
async function deliverInTime(
  channel: Channel,
  entry: OutboxEntry,
  { signal, now }: TellContext,
): Promise<Attempt> {
  for (let count = 0; ; count += 1) {
    const attempt = await attemptDelivery(channel, messageOfEntry(entry, now()), signal);
    if (attempt.isDelivered || attempt.isLasting || signal.aborted) return attempt;
    const pauseMs = Math.max(PAUSES_MS[count] ?? PAUSES_MS.at(-1) ?? 0, attempt.retryAfterMs ?? 0);
    const isOver = await delay(pauseMs, signal).then(
      () => false,
      () => true,
    );
    if (isOver) return attempt;
  }
}
