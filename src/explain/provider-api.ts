import { AppError } from '../base/errors.ts';
import type { ModelSettings } from './model-settings.ts';

/** What is said to a model: what it is to do, and the facts as data. */
export interface ModelQuestion {
  readonly system: string;
  readonly user: string;
}

export interface ProviderRequest {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Readonly<Record<string, unknown>>;
}

type AskedModel = Pick<ModelSettings, 'provider' | 'model' | 'baseUrl' | 'maxTokens'>;

const ANTHROPIC_URL = 'https://api.anthropic.com';
const OPENAI_URL = 'https://api.openai.com/v1';

/** The request as the provider's API is published. */
export function requestFor(
  settings: AskedModel,
  question: ModelQuestion,
  apiKey: string | null,
): ProviderRequest {
  return settings.provider === 'anthropic'
    ? anthropicRequest(settings, question, apiKey)
    : openaiRequest(settings, question, apiKey);
}

/** @source Anthropic, Messages API reference: POST /v1/messages, with the header anthropic-version */
function anthropicRequest(
  { model, baseUrl, maxTokens }: AskedModel,
  { system, user }: ModelQuestion,
  apiKey: string | null,
): ProviderRequest {
  return {
    url: `${baseUrl ?? ANTHROPIC_URL}/v1/messages`,
    headers: { 'anthropic-version': '2023-06-01', ...(apiKey === null ? {} : { 'x-api-key': apiKey }) },
    body: { model, max_tokens: maxTokens, system, messages: [{ role: 'user', content: user }] },
  };
}

/**
 * @source OpenAI, API reference, "Create chat completion": `max_tokens` is deprecated there in favour of
 * `max_completion_tokens`, which servers that are only compatible may not know
 */
function openaiRequest(
  { model, baseUrl, maxTokens }: AskedModel,
  { system, user }: ModelQuestion,
  apiKey: string | null,
): ProviderRequest {
  const limit = baseUrl === null ? { max_completion_tokens: maxTokens } : { max_tokens: maxTokens };
  return {
    url: `${baseUrl ?? OPENAI_URL}/chat/completions`,
    headers: apiKey === null ? {} : { authorization: `Bearer ${apiKey}` },
    body: {
      model,
      ...limit,
      messages: [
        { role: 'system', content: system },
        { role: 'user', content: user },
      ],
    },
  };
}

/** The text of an answer. @throws CHANNEL_FAILED it is none, or holds no text */
export function textOf(provider: ModelSettings['provider'], answer: string): string {
  const parsed = parse(answer);
  const text = provider === 'anthropic' ? anthropicText(parsed) : openaiText(parsed);
  if (text === null || text.trim() === '')
    throw new AppError('CHANNEL_FAILED', 'unable to use the answer of the language model: it holds no text');
  return text;
}

function parse(answer: string): unknown {
  try {
    return JSON.parse(answer);
  } catch {
    throw new AppError('CHANNEL_FAILED', 'unable to use the answer of the language model: it is no JSON');
  }
}

function anthropicText(answer: unknown): string | null {
  const content = memberOf(answer, 'content');
  if (!Array.isArray(content)) return null;
  return content
    .filter(part => memberOf(part, 'type') === 'text')
    .map(part => memberOf(part, 'text'))
    .filter(text => typeof text === 'string')
    .join('');
}

function openaiText(answer: unknown): string | null {
  const choices = memberOf(answer, 'choices');
  const content = memberOf(memberOf(Array.isArray(choices) ? choices[0] : null, 'message'), 'content');
  return typeof content === 'string' ? content : null;
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}
