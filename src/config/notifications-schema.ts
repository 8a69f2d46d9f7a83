import { z } from 'zod';
import { DURATION } from '../base/duration.ts';
import { successFrequencies } from '../notify/alert-policy.ts';
import { notificationKinds, severities } from '../notify/notification.ts';
import { secretSchema } from './secret-schema.ts';

const absolutePath = z.string().regex(/^\/[^\0]*$/, 'must be an absolute path');
const severity = z.enum(severities);

/** The name of a channel: also that of a folder of the outbox. */
export const CHANNEL_NAME = /^[a-z0-9][a-z0-9_-]{0,31}$/;

const channelName = z
  .string()
  .regex(CHANNEL_NAME, 'a name is up to 32 lower case letters, digits, dashes and underscores')
  .describe('The name of this channel, as in `alerts` and in commands.');

const ADDRESS = /^[^\s@<>,;"]+@[^\s@<>,;"]+$/;
const mailAddress = z.string().regex(ADDRESS, 'must be a mail address');

const hearing = {
  min_severity: severity
    .optional()
    .describe('Nothing less severe is told here. Default: info; of pagerduty: warning'),
  kinds: z
    .array(z.enum(notificationKinds))
    .min(1)
    .optional()
    .describe('Nothing else is told here. Default: everything'),
};

const target = {
  allow_private: z
    .boolean()
    .optional()
    .describe('The address may be one of a private network or of this machine. Default: false'),
  allow_http: z
    .boolean()
    .optional()
    .describe('It may be sent unencrypted, also to other machines than this one. Default: false'),
  ca: absolutePath.optional().describe("Certificate authorities in PEM, instead of the system's."),
};

const slack = z
  .strictObject({
    type: z.literal('slack'),
    webhook: secretSchema.describe('The URL of an incoming webhook. It is a secret: who has it can post.'),
    ...hearing,
    ...target,
  })
  .describe('Slack, and what takes the same messages.');

const pagerduty = z
  .strictObject({
    type: z.literal('pagerduty'),
    routing_key: secretSchema.describe('The integration key of an "Events API V2" integration.'),
    url: z
      .string()
      .regex(/^https?:\/\//, 'must be an https:// URL')
      .optional()
      .describe('Default: https://events.pagerduty.com/v2/enqueue'),
    ...hearing,
    ...target,
  })
  .describe('PagerDuty, by its Events API v2.');

const webhook = z
  .strictObject({
    type: z.literal('webhook'),
    url: z
      .string()
      .regex(
        /^(https?:\/\/.+|env:[A-Za-z_][A-Za-z0-9_]*|file:\/.+|command:.+)$/s,
        'must be an https:// URL, or where one is kept: env:NAME, file:/PATH or command:…',
      )
      .describe('Where to post: an https:// URL, or a secret.'),
    secret: secretSchema.describe('What messages are signed with, 24 bytes or more.'),
    ...hearing,
    ...target,
  })
  .describe('A receiver of your own, see docs/notifications.md.');

const email = z
  .strictObject({
    type: z.literal('email'),
    host: z.string().regex(/^[^\s/@]+$/, 'must be the name of a mail server'),
    port: z.int().min(1).max(65_535).optional().describe('Default: 587; of tls 465, of none 25'),
    security: z.enum(['starttls', 'tls', 'none']).optional().describe('Default: starttls'),
    allow_plaintext: z
      .boolean()
      .optional()
      .describe('With `security: none`: mail may cross the network unencrypted. Default: false'),
    user: z.string().min(1).optional(),
    password: secretSchema.optional(),
    from: z
      .string()
      .regex(
        /^([^\s@<>,;"]+@[^\s@<>,;"]+|[^<>@\r\n]+ <[^\s@<>,;"]+@[^\s@<>,;"]+>)$/,
        'must be a mail address',
      ),
    to: z.array(mailAddress).min(1),
    ca: target.ca,
    ...hearing,
  })
  .refine(value => (value.user === undefined) === (value.password === undefined), {
    message: "needs both 'user' and 'password', or neither",
  })
  .describe('Mail over SMTP.');

const duration = z.string().regex(DURATION, 'must be a number with s, m, h or d, like 4h');

/** The section `notifications`: how people can be reached. */
export const notificationsSchema = z
  .strictObject({
    channels: z
      .record(channelName, z.discriminatedUnion('type', [slack, pagerduty, email, webhook]))
      .optional()
      .describe('Where people are told.'),
    repeat_after: duration.optional().describe('What is still wrong is told again after this. Default: 4h'),
    most_per_hour: z
      .int()
      .min(1)
      .max(1000)
      .optional()
      .describe('More than this to a channel waits, unless it is critical. Default: 60'),
    directory: absolutePath
      .optional()
      .describe('Where undelivered notifications are kept. Default: ~/.local/state/aishell/notify'),
  })
  .describe('How people are told.');

const channelList = z
  .array(channelName)
  .optional()
  .describe('Names of `notifications.channels`. Default: all of them');

/** The section `alerts`: who is told what. It is the same wherever alerts can be set. */
export const alertsSchema = z
  .strictObject({
    on_incident: z.strictObject({ channels: channelList }).optional().describe('A disaster was noticed.'),
    on_failure: z
      .strictObject({
        channels: channelList,
        severity: severity.optional().describe('How severe a failure is. Default: warning'),
      })
      .optional()
      .describe('A backup, a test or a check failed.'),
    on_success: z
      .strictObject({
        channels: channelList,
        severity: severity.optional().describe('Default: info'),
        frequency: z
          .enum(successFrequencies)
          .optional()
          .describe('always: each by itself; else a summary, when all went well. Default: weekly'),
      })
      .optional()
      .describe('All went well.'),
  })
  .describe('Who is told what.');

export type RawNotifications = z.infer<typeof notificationsSchema>;
export type RawAlerts = z.infer<typeof alertsSchema>;
