import { parseDuration } from '../base/duration.ts';
import type { ModelSettings } from '../explain/model-settings.ts';
import type { RawAi } from './ai-schema.ts';

/** Gives the section `ai` its meaning; null: there is none. */
export function toAi(raw: RawAi | undefined): ModelSettings | null {
  if (raw === undefined) return null;
  return Object.freeze({
    provider: raw.provider,
    model: raw.model,
    apiKey: raw.api_key ?? null,
    baseUrl: raw.base_url?.replace(/\/+$/, '') ?? null,
    timeoutMs: parseDuration(raw.timeout ?? '30s') * 1000,
    maxTokens: raw.max_tokens ?? 1000,
    allowPrivate: raw.allow_private ?? false,
    allowHttp: raw.allow_http ?? false,
    ca: raw.ca ?? null,
  });
}
