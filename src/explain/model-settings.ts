import type { TargetRules } from '../notify/channel.ts';

/** A language model that explains, as the configuration has it. */
export interface ModelSettings extends TargetRules {
  /** Whose published API it speaks: Anthropic's Messages, or OpenAI's chat completions, which many local servers speak too. */
  readonly provider: 'anthropic' | 'openai';
  readonly model: string;
  /** Without a slash at its end; null: the provider's own. */
  readonly baseUrl: string | null;
  /** A secret reference; null: a server that wants none. */
  readonly apiKey: string | null;
  readonly timeoutMs: number;
  readonly maxTokens: number;
}
