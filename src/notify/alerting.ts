import type { AlertPolicy } from './alert-policy.ts';
import type { Channel } from './channel.ts';

/** Everything that telling people needs, built from the configuration. */
export interface Alerting {
  readonly channels: readonly Channel[];
  readonly policy: AlertPolicy;
  /** Where the outbox and the history are kept; null: nowhere, what is not delivered at once is lost. */
  readonly directory: string | null;
}

export interface NotifyOptions {
  /** Ends the attempts; what was not delivered stays in the outbox. */
  readonly signal: AbortSignal;
  /** Not longer than this in all. */
  readonly timeoutMs?: number;
  /** Unix time in milliseconds. */
  readonly now?: () => number;
}
