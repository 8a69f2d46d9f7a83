import { z } from 'zod';

/** Where a secret is kept; never the secret itself. */
export const secretSchema = z
  .string()
  .regex(
    /^(env:[A-Za-z_][A-Za-z0-9_]*|file:\/.+|command:.+)$/s,
    'a secret is given as env:NAME, file:/PATH or command:…, never as itself',
  )
  .describe('Where a secret is kept: env:NAME, file:/PATH or command:…');
