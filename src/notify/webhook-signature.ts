import { createHmac } from 'node:crypto';

const PREFIX = 'whsec_';
const LEAST_SECRET_BYTES = 24;

/**
 * The key of a webhook's secret: what follows `whsec_` in base64. Null when there is no such key, or one of less than 24
 * bytes, which could be guessed.
 * @source https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md (secret)
 */
export function webhookKey(secret: string): Uint8Array | null {
  if (!secret.startsWith(PREFIX)) return null;
  const key = Buffer.from(secret.slice(PREFIX.length), 'base64');
  return key.length < LEAST_SECRET_BYTES ? null : key;
}

/**
 * The headers that sign a body, as Standard Webhooks has them: HMAC-SHA256 over `id.timestamp.body`. The time is signed
 * with it, so a receiver that refuses what is older than five minutes cannot be sent an old message again.
 */
export function signatureHeaders(
  key: Uint8Array,
  message: { readonly id: string; readonly sentAt: Date; readonly body: string },
): Readonly<Record<string, string>> {
  const timestamp = String(Math.floor(message.sentAt.getTime() / 1000));
  const signed = `${message.id}.${timestamp}.${message.body}`;
  return {
    'webhook-id': message.id,
    'webhook-timestamp': timestamp,
    'webhook-signature': `v1,${createHmac('sha256', key).update(signed).digest('base64')}`,
  };
}
