import { withConnection } from '../../engines/postgres/connection.ts';
import { readGuardFacts, readOtherDatabases } from '../../engines/postgres/guard-facts.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type MeasureStatus, measureStatus, measures } from './measures.ts';
import { READ_ONLY_ROLE } from './read-only-role.ts';

/** What the measures of an instance are read and changed with: the repository is not needed. */
export type HardenContext = Pick<InstanceContext, 'instance' | 'connection'>;

/** How a database is protected against accidents. */
export interface Hardening {
  readonly instance: string;
  readonly database: string;
  readonly serverVersion: string;
  readonly tables: number;
  readonly measures: readonly MeasureStatus[];
  /** Databases of the same server, which have measures of their own. */
  readonly otherDatabases: readonly string[];
  /** Of measures that were applied: what is not there any more, or not yet. */
  readonly problems: readonly string[];
}

/**
 * Reads what is in force, from the database itself: so it is true whatever it was restored from. Changes nothing.
 *
 * @throws DATABASE_UNREACHABLE DATABASE_DENIED DATABASE_FAILED
 */
export async function readHardening(
  context: HardenContext,
  request: { readonly database: string | null },
  options: { readonly signal: AbortSignal },
): Promise<Hardening> {
  const where = {
    applicationName: 'aishell harden',
    ...(request.database === null ? {} : { database: request.database }),
  };
  return await withConnection(context.connection, { ...where, signal: options.signal }, async client => {
    const facts = await readGuardFacts(client, READ_ONLY_ROLE);
    const states = measures.map(measure => measureStatus(measure, facts));
    return {
      instance: context.instance,
      database: facts.server.database,
      serverVersion: facts.server.version,
      tables: facts.tables.length,
      measures: states,
      otherDatabases: await readOtherDatabases(client),
      problems: states.flatMap(({ name, state, since, missing }) =>
        state === 'partly' && since !== null ? missing.map(text => `${name}: ${text}`) : [],
      ),
    };
  });
}
