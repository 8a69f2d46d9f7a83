import { AppError, messageOf } from '../base/errors.ts';
import { resolveSecretRef } from '../base/secret.ts';
import { redact } from '../notify/channel.ts';
import { oneLine } from '../notify/notification.ts';
import { postJson } from '../notify/post-json.ts';
import type { ModelSettings } from './model-settings.ts';
import { type ModelQuestion, requestFor, textOf } from './provider-api.ts';

const MOST_CHARACTERS = 6000;

/**
 * Asks a language model once. The address is checked as those of alerts are, redirects are not followed.
 *
 * @returns plain text on lines, without what could steer a terminal
 * @throws CHANNEL_FAILED ADDRESS_REFUSED SECRET_UNAVAILABLE SECRET_EXPOSED; the signal's reason when cancelled
 */
export async function askModel(
  settings: ModelSettings,
  question: ModelQuestion,
  options: { readonly env: NodeJS.ProcessEnv; readonly signal: AbortSignal },
): Promise<string> {
  const { env } = options;
  const tooLong = AbortSignal.timeout(settings.timeoutMs);
  const signal = AbortSignal.any([options.signal, tooLong]);
  try {
    const secret = settings.apiKey === null ? null : await resolveSecretRef(settings.apiKey, { env, signal });
    const apiKey = secret?.reveal() ?? null;
    const { url, headers, body } = requestFor(settings, question, apiKey);
    const reply = await postJson(url, { body: JSON.stringify(body), headers }, { ...settings, signal });
    if (reply.status < 200 || reply.status >= 300) {
      const said = oneLine(redact(reply.text, apiKey === null ? [] : [apiKey]), 200);
      throw new AppError(
        'CHANNEL_FAILED',
        `the language model answered ${reply.status}${said === '' ? '' : `: ${said}`}`,
      );
    }
    return cleanAnswer(textOf(settings.provider, reply.text));
  } catch (error) {
    options.signal.throwIfAborted();
    if (!tooLong.aborted) throw error;
    throw new AppError(
      'CHANNEL_FAILED',
      `the language model did not answer within ${settings.timeoutMs / 1000} seconds`,
      { cause: messageOf(error) },
    );
  }
}

/** Control characters, and marks that turn the direction of writing around or cannot be seen. */
const HIDDEN = /(?!\n)[\p{Cc}\p{Cf}]/gu;

/** Text alone is left, and not without end. */
export function cleanAnswer(text: string): string {
  const plain = text
    .replace(/\r\n?/g, '\n')
    .replace(/\t/g, ' ')
    .toWellFormed()
    .replace(HIDDEN, '')
    .replace(/\n{3,}/g, '\n\n')
    .trim();
  const characters = [...plain];
  return characters.length <= MOST_CHARACTERS ? plain : `${characters.slice(0, MOST_CHARACTERS).join('')}…`;
}
