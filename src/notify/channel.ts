import type { ErrorCode } from '../base/codes.ts';
import { AppError } from '../base/errors.ts';
import type { Message, NotificationKind, Severity } from './notification.ts';

/** Where people are told. An adapter draws the notification in its own way and delivers it once; nothing else. */
export interface Channel {
  readonly name: string;
  readonly type: ChannelSettings['type'];
  /** Where it goes, for people: a host or addresses, never a secret. */
  readonly destination: string;
  readonly hears: Hears;
  /**
   * Resolves when the other side has taken the message over.
   * @throws DeliveryError it has not, or perhaps not: then the same message may arrive twice
   * @throws SECRET_UNAVAILABLE, SECRET_EXPOSED as resolveSecretRef; the signal's reason when it aborts
   */
  deliver(message: Message, signal: AbortSignal): Promise<Delivered>;
}

export interface Delivered {
  /** Something a person should look at although it arrived, e.g. a recipient that was rejected. */
  readonly problem: string | null;
}

/** What a channel wants to hear. */
export interface Hears {
  readonly minSeverity: Severity;
  /** Null: every kind. */
  readonly kinds: readonly NotificationKind[] | null;
}

/** Rules for where a request may go. */
export interface TargetRules {
  /** Addresses of private networks and of this machine are fine. Those of cloud metadata services never are. */
  readonly allowPrivate: boolean;
  /** http:// is fine; without it only to this machine itself. */
  readonly allowHttp: boolean;
  /** Path of a PEM file whose authorities are trusted instead of the system's. */
  readonly ca: string | null;
}

interface NamedSettings {
  readonly name: string;
  readonly hears: Hears;
}

export interface SlackSettings extends NamedSettings, TargetRules {
  readonly type: 'slack';
  /** A secret reference: who knows the URL can post. */
  readonly webhook: string;
}

export interface PagerDutySettings extends NamedSettings, TargetRules {
  readonly type: 'pagerduty';
  /** A secret reference. */
  readonly routingKey: string;
  readonly url: string;
}

export interface WebhookSettings extends NamedSettings, TargetRules {
  readonly type: 'webhook';
  /** An https:// URL, or a secret reference to one. */
  readonly url: string;
  /** A secret reference. */
  readonly secret: string;
}

export interface EmailSettings extends NamedSettings {
  readonly type: 'email';
  readonly host: string;
  readonly port: number;
  /** `tls` from the first byte on, `starttls` before anything is said, or nothing. */
  readonly security: 'tls' | 'starttls' | 'none';
  readonly allowPlaintext: boolean;
  readonly ca: string | null;
  readonly user: string | null;
  /** A secret reference. */
  readonly password: string | null;
  readonly from: string;
  readonly to: readonly string[];
}

/** A channel as the configuration has it. */
export type ChannelSettings = SlackSettings | PagerDutySettings | WebhookSettings | EmailSettings;

/** What a channel is built with. */
export interface ChannelEnvironment {
  readonly env: NodeJS.ProcessEnv;
  /** Finds the addresses of a host name; the system's resolver unless given. */
  readonly resolveHost?: ResolveHost;
}

export type ResolveHost = (host: string) => Promise<readonly string[]>;

/** A message was not delivered. Its text carries no secret. */
export class DeliveryError extends AppError {
  /** Trying again soon is of no use: something must be changed first. */
  readonly isLasting: boolean;
  /** The other side said how long to wait. */
  readonly retryAfterMs: number | null;

  constructor(
    code: Extract<ErrorCode, 'CHANNEL_FAILED' | 'ADDRESS_REFUSED'>,
    message: string,
    options: {
      readonly isLasting: boolean;
      readonly retryAfterMs?: number | null;
      readonly hint?: string;
    },
  ) {
    super(code, message, options.hint === undefined ? {} : { hint: options.hint });
    this.name = 'DeliveryError';
    this.isLasting = options.isLasting;
    this.retryAfterMs = options.retryAfterMs ?? null;
  }
}

/** A text from outside without the secrets it may repeat. */
export function redact(text: string, secrets: readonly string[]): string {
  return secrets
    .filter(secret => secret.length >= 4)
    .reduce((shown, secret) => shown.replaceAll(secret, '[redacted]'), text);
}
