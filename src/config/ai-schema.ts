import { z } from 'zod';
import { DURATION, parseDuration } from '../base/duration.ts';
import { secretSchema } from './secret-schema.ts';

/** The section `ai` of aishell.yaml. */
export const aiSchema = z
  .strictObject({
    provider: z
      .enum(['anthropic', 'openai'])
      .describe('Whose API it speaks. Local servers mostly speak that of openai.'),
    model: z.string().regex(/^\S{1,200}$/, 'must be the name of a model'),
    api_key: secretSchema.optional().describe('Left out: a server that wants none.'),
    base_url: z
      .string()
      .regex(/^https?:\/\/[^\s?#]+$/, 'must be an https:// URL')
      .optional()
      .describe("Instead of the provider's own; of openai with its /v1, like http://localhost:11434/v1"),
    timeout: z
      .string()
      .regex(DURATION, 'must be a number with s, m, h or d, like 30s')
      .refine(text => parseDuration(text) >= 1, { message: 'must be at least 1s' })
      .optional()
      .describe('Longer than this it is not waited for. Default: 30s'),
    max_tokens: z.int().min(100).max(8000).optional().describe('Of its answer. Default: 1000'),
    allow_private: z
      .boolean()
      .optional()
      .describe('The address may be one of a private network or of this machine. Default: false'),
    allow_http: z
      .boolean()
      .optional()
      .describe('It may be asked unencrypted, also on other machines than this one. Default: false'),
    ca: z
      .string()
      .regex(/^\/[^\0]*$/, 'must be an absolute path')
      .optional()
      .describe("Certificate authorities in PEM, instead of the system's."),
  })
  .describe(
    'A language model that puts reports into words. It sees facts, no values of rows; nothing it says is done.',
  );

export type RawAi = z.infer<typeof aiSchema>;
