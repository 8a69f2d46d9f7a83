import { z } from 'zod';
import { DURATION } from '../base/duration.ts';

const absolutePath = z.string().regex(/^\/[^\0]*$/, 'must be an absolute path');

const hook = z.strictObject({
  command: z.string().min(1).describe('Run by the shell, without any secrets of this program.'),
  when: z.enum(['before', 'after']).optional().describe('Both when left out.'),
  step: z
    .string()
    .regex(/^[a-z][a-z-]*$/, 'must be the name of a step, as in docs/emergency.md')
    .optional()
    .describe('A step of stopping or resuming; every step when left out.'),
  timeout: z
    .string()
    .regex(DURATION, 'must be a number with s, m, h or d, like 5s')
    .optional()
    .describe('Longer than this it is not waited for. Default: 5s'),
});

/** The section `emergency` of aishell.yaml. */
export const emergencySchema = z
  .strictObject({
    level: z
      .enum(['soft', 'hard', 'strict'])
      .optional()
      .describe('How `emergency stop-writes` stops writes when it is not told. Default: soft'),
    control_database: z
      .string()
      .min(1)
      .optional()
      .describe('At level hard, the database that stays open for aishell. It should hold no tables.'),
    maintenance_file: absolutePath
      .optional()
      .describe('Exists while writes are stopped: a page, and a sign for the web server.'),
    state_directory: absolutePath
      .optional()
      .describe('Where this machine keeps the record of what was changed.'),
    backup: z.boolean().optional().describe('Make a backup after every stop. Default: false'),
    hooks: z.array(hook).optional().describe('Commands that are run before and after steps.'),
  })
  .describe('What happens in an emergency.');
