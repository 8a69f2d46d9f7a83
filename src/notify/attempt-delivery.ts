import { abortable } from '../base/abort.ts';
import { AppError, messageOf } from '../base/errors.ts';
import { type Channel, DeliveryError } from './channel.ts';
import type { Message } from './notification.ts';
import type { OutboxEntry } from './outbox.ts';

/** Longer than this no other side may take. */
const ATTEMPT_TIMEOUT_MS = 10_000;
const LATE_AFTER_MS = 120_000;

/** How an attempt went. A text says what a person should know of it. */
export type Attempt =
  | { readonly isDelivered: true; readonly problem: string | null }
  | {
      readonly isDelivered: false;
      readonly problem: string;
      readonly hint: string | null;
      readonly isLasting: boolean;
      readonly retryAfterMs: number | null;
    };

/** Tries once, for a bounded time. It does not throw: what one channel does is no matter of the others. */
export async function attemptDelivery(
  channel: Channel,
  message: Message,
  signal: AbortSignal,
): Promise<Attempt> {
  const timeout = AbortSignal.timeout(ATTEMPT_TIMEOUT_MS);
  const either = AbortSignal.any([signal, timeout]);
  try {
    either.throwIfAborted();
    const { problem } = await abortable(channel.deliver(message, either), either);
    return { isDelivered: true, problem };
  } catch (error) {
    const seconds = ATTEMPT_TIMEOUT_MS / 1000;
    if (signal.aborted) return failed(new Error('there was no time left for an answer'), false);
    if (timeout.aborted) return failed(new Error(`there was no answer within ${seconds} seconds`), false);
    if (error instanceof DeliveryError)
      return { ...failed(error, error.isLasting), retryAfterMs: error.retryAfterMs };
    // A secret or a file that is not there will not be there in a second either.
    return failed(error, true);
  }
}

function failed(error: unknown, isLasting: boolean): Extract<Attempt, { readonly isDelivered: false }> {
  return {
    isDelivered: false,
    problem: messageOf(error),
    hint: error instanceof AppError ? (error.hint ?? null) : null,
    isLasting,
    retryAfterMs: null,
  };
}

/** The message of an entry. */
export function messageOfEntry(entry: OutboxEntry, nowMs: number): Message {
  return {
    id: entry.id,
    notification: entry.notification,
    raisedAt: new Date(entry.raisedMs),
    isLate: nowMs - entry.raisedMs > LATE_AFTER_MS,
  };
}

const FIRST_PAUSE_MS = 30_000;
const LONGEST_PAUSE_MS = 3_600_000;

/** The entry after an attempt that failed: due again after a pause that doubles, up to an hour. */
export function afterFailure(
  entry: OutboxEntry,
  attempt: Extract<Attempt, { readonly isDelivered: false }>,
  nowMs: number,
): OutboxEntry {
  const doubled = Math.min(FIRST_PAUSE_MS * 2 ** entry.attempts, LONGEST_PAUSE_MS);
  const pauseMs = Math.max(attempt.isLasting ? LONGEST_PAUSE_MS : doubled, attempt.retryAfterMs ?? 0);
  return { ...entry, attempts: entry.attempts + 1, lastError: attempt.problem, dueMs: nowMs + pauseMs };
}
