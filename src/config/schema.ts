import { z } from 'zod';
import { DURATION, parseDuration } from '../base/duration.ts';
import { parseSize, SIZE } from '../base/sizes.ts';
import { aiSchema } from './ai-schema.ts';
import { emergencySchema } from './emergency-schema.ts';
import { alertsSchema, notificationsSchema } from './notifications-schema.ts';
import { secretSchema } from './secret-schema.ts';
import { watchSchema } from './watch-schema.ts';

/** Room for a few segments. */
const LEAST_SPOOL_BYTES = 100e6;

const instanceName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._-]{0,62}$/,
    'a name is up to 63 lower case letters, digits, dots, dashes and underscores',
  )
  .describe('The name of this instance, as used in commands and in the repository.');

const absolutePath = z.string().regex(/^\/[^\0]*$/, 'must be an absolute path');

const connection = z
  .string()
  .regex(/^postgres(ql)?:\/\//, 'must be a postgresql:// URL')
  .regex(
    /^postgres(ql)?:\/\/(?![^/@?]*:[^/@?]*@)(?!.*[?&]password=)/,
    "must not hold a password: give it under 'password' as env:NAME, file:/PATH or command:…",
  )
  .describe('How to reach the server, e.g. postgresql://postgres@/postgres?host=/var/run/postgresql');

const service = z
  .discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('auto') }).describe('Found out from the running server.'),
    z.strictObject({ kind: z.literal('pg_ctl') }),
    z.strictObject({ kind: z.literal('pg_ctlcluster') }).describe("Debian's and Ubuntu's wrapper."),
    z.strictObject({ kind: z.literal('systemd'), unit: z.string().min(1).optional() }),
    z.strictObject({ kind: z.literal('commands'), start: z.string().min(1), stop: z.string().min(1) }),
  ])
  .describe('What starts and stops the server, for a restore in place.');

/** One entry of `instances`. */
export const instanceSchema = z.strictObject({
  engine: z.literal('postgresql').describe('The kind of database server.'),
  connection,
  password: secretSchema.optional(),
  data_directory: absolutePath.optional().describe('Asked from the server when left out.'),
  binaries: absolutePath
    .optional()
    .describe('The folder with postgres and pg_ctl; found from the running server when left out.'),
  service: service.optional(),
  slot: z
    .string()
    .regex(/^[a-z0-9_]{1,63}$/, 'may have up to 63 lower case letters, digits and underscores')
    .optional()
    .describe('The replication slot the agent streams from. Default: aishell_ and the name of the instance'),
  cost_per_minute: z
    .number()
    .positive()
    .optional()
    .describe('What a minute without this instance costs, for the report of an incident.'),
  currency: z
    .string()
    .regex(/^[A-Z]{3}$/, 'must be three capital letters, like USD')
    .optional()
    .describe('Of cost_per_minute. Default: USD'),
  recovery_time_objective: z
    .string()
    .regex(DURATION, 'must be a number with s, m, h or d, like 60s')
    .optional()
    .describe(
      'How long a recovery may take, like 60s: the agent takes incremental backups so that it does not.',
    ),
  watch: watchSchema.optional(),
});

const key = z
  .strictObject({
    file: absolutePath.optional().describe('A key file, written by `aishell backup init`.'),
    passphrase: secretSchema.optional(),
  })
  .refine(value => (value.file === undefined) !== (value.passphrase === undefined), {
    message: "needs either 'file' or 'passphrase'",
  })
  .describe('What opens the repository: a key file, or a passphrase.');

const repository = z.strictObject({
  storage: z
    .string()
    .regex(/^(\/|[a-z][a-z0-9+.-]*:\/\/)/, 'must be an absolute path or a URL')
    .describe('Where the backups are kept: an absolute path or a file:// URL.'),
  key,
});

const backup = z.strictObject({
  compression: z
    .string()
    .regex(/^(none|zstd(:([1-9]|1[0-9]))?)$/, 'must be zstd:1 to zstd:19, or none')
    .optional()
    .describe('zstd:1 to zstd:19, or none. Default: zstd:3'),
  workers: z
    .int()
    .min(1)
    .max(64)
    .optional()
    .describe('Threads that read, compress and encrypt. Default: one per processor.'),
  type: z
    .enum(['full', 'differential', 'incremental'])
    .optional()
    .describe('What `backup create` makes when it is not told. Default: full'),
});

const duration = z.string().regex(DURATION, 'must be a number with s, m, h or d, like 60s');

const agent = z
  .strictObject({
    spool: absolutePath
      .optional()
      .describe(
        'Where received log lies until it is archived: a directory on a local disk. Default: ~/.local/state/aishell/spool',
      ),
    spool_limit: z
      .string()
      .regex(SIZE, 'must be a number with MB, GB or TB, like 8GB')
      .refine(text => parseSize(text) >= LEAST_SPOOL_BYTES, { message: 'must be at least 100MB' })
      .optional()
      .describe('How much may lie there unarchived before nothing more is received. Default: 8GB'),
    archive_timeout: duration
      .refine(text => parseDuration(text) >= 1, { message: 'must be at least 1s' })
      .optional()
      .describe('When what was received is archived at the latest, full segment or not. Default: 60s'),
    synchronous: z
      .boolean()
      .optional()
      .describe('Commits wait until the agent has them on its disk: none that was answered is lost.'),
    synchronous_timeout: duration
      .refine(text => parseDuration(text) >= 1, { message: 'must be at least 1s' })
      .optional()
      .describe('Commits stop to wait for an agent that has not been well for so long. Default: 5s'),
  })
  .describe('The agent: `aishell agent run`.');

/** What stands in aishell.yaml. It only checks; toConfig gives it its meaning, so that JSON Schema can say the same. */
export const configSchema = z
  .strictObject({
    version: z.literal(1).describe('The version of this format.'),
    instances: z
      .record(instanceName, instanceSchema)
      .refine(value => Object.keys(value).length > 0, { message: 'needs at least one instance' })
      .describe('The database servers that are protected.'),
    repository: repository.describe('Where their backups and logs are kept.'),
    backup: backup.optional(),
    emergency: emergencySchema.optional(),
    agent: agent.optional(),
    watch: watchSchema.optional(),
    notifications: notificationsSchema.optional(),
    alerts: alertsSchema.optional(),
    ai: aiSchema.optional(),
  })
  .describe('The configuration of aishell.');

/** aishell.yaml as it was written. */
export type RawConfig = z.infer<typeof configSchema>;

/** The same as JSON Schema: for editors, and for looking up which keys may stand where. */
export function configJsonSchema(): Readonly<Record<string, unknown>> {
  return z.toJSONSchema(configSchema);
}
