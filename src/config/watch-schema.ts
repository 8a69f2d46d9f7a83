import { z } from 'zod';
import { DURATION, parseDuration } from '../base/duration.ts';
import { SIZE } from '../base/sizes.ts';

const rows = z.int().min(1).max(1_000_000_000_000);
const share = z
  .union([z.literal('off'), z.string().regex(/^(100|[1-9]\d?)%$/, 'must be a share like 50%, or off')])
  .describe('Such a part of a table, like 50%; off: no part is too large.');
const policy = z.enum(['alert', 'hold', 'cancel']);
const names = z.array(z.string().min(1));
const TIMES = /^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$/;

const tableLimits = z.strictObject({
  table: z.string().min(1).describe('schema.table, table, or database.schema.table; * for any characters.'),
  rows: rows.optional(),
  share: share.optional(),
  policy: policy.optional(),
});

const roleLimits = z.strictObject({
  role: z.string().min(1).describe('A database role; * for any characters.'),
  rows: rows.optional(),
  share: share.optional(),
  policy: policy.optional(),
});

const allowance = z
  .strictObject({
    tables: names.optional(),
    roles: names.optional(),
    applications: names.optional().describe('By application_name.'),
    between: z
      .string()
      .regex(TIMES, 'must be two times of the day in UTC, like 02:00-04:00')
      .optional()
      .describe('Times of the day in UTC, like 02:00-04:00.'),
  })
  .refine(value => Object.keys(value).length > 0, { message: 'must name something' });

/** The section `watch` of aishell.yaml, and that of an instance. */
export const watchSchema = z
  .strictObject({
    enabled: z
      .boolean()
      .optional()
      .describe('Whether the agent looks for disasters in the log. Default: true'),
    policy: policy
      .optional()
      .describe(
        'alert: people are told; hold: a snapshot keeps the old rows as well; cancel: the transaction is cancelled as well. Default: hold',
      ),
    rows: rows
      .optional()
      .describe('So many rows of one table, deleted or updated by one transaction. Default: 100000'),
    share: share.optional(),
    share_rows: rows
      .optional()
      .describe('The share counts for tables, and from a number of rows on, of so many. Default: 1000'),
    lost_table_rows: rows
      .optional()
      .describe('Tables with so many rows are not truncated or dropped without an alert. Default: 1000'),
    rate: z
      .boolean()
      .optional()
      .describe(
        'Learn how much of each table changes at which hour, and tell what is far beyond. Default: true',
      ),
    tables: z.array(tableLimits).optional().describe('Limits of single tables.'),
    roles: z.array(roleLimits).optional().describe('Limits of single roles.'),
    allow: z
      .array(allowance)
      .optional()
      .describe('What is nobody’s alarm: everything that an entry names must be so.'),
    hold_for: z
      .string()
      .regex(DURATION, 'must be a number with s, m, h or d, like 1h')
      .refine(text => parseDuration(text) >= 1, { message: 'must be at least 1s' })
      .optional()
      .describe('A snapshot is held no longer. Default: 1h'),
    hold_limit: z
      .string()
      .regex(SIZE, 'must be a number with MB, GB or TB, like 20GB')
      .optional()
      .describe('Nor when so much log was written since. Default: 20GB'),
    show_query: z
      .boolean()
      .optional()
      .describe('Whether notifications carry the statement, which may hold values of rows. Default: false'),
  })
  .describe('How the agent notices disasters, and what it does about them.');
