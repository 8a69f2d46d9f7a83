import { AppError, systemCode } from '../../base/errors.ts';
import { connect } from '../../engines/postgres/connection.ts';
import { prepareControlSession } from '../../engines/postgres/write-controls.ts';
import { hasUserTables, readWriteFacts, type WriteFacts } from '../../engines/postgres/write-facts.ts';
import type { EmergencyContext } from './emergency-context.ts';

type Client = Awaited<ReturnType<typeof connect>>;

/** The session that stays open through the whole procedure: it cannot be locked out by what it changes. */
export interface ControlSession extends AsyncDisposable {
  readonly client: Client;
  readonly facts: WriteFacts;
  /** Another session of this program in the same database, or in the one named. */
  open(name: string, database?: string): Promise<Client>;
}

/** Every session of this program has this in front of its name, and is left alone when others are ended. */
const APPLICATION = 'aishell emergency';
/** Where a server always lets somebody in, unless it was told otherwise. */
const MAINTENANCE_DATABASES = ['postgres', 'template1'];

/**
 * Opens the control session: in the instance's own database, or, where that takes no connections (because writes are
 * stopped already), in `known`, postgres or template1.
 *
 * @throws DATABASE_UNREACHABLE DATABASE_DENIED
 */
export async function openControl(
  context: EmergencyContext,
  options: { readonly known?: string | null; readonly signal?: AbortSignal } = {},
): Promise<ControlSession> {
  const { known = null } = options;
  const { controlDatabase } = context.settings;
  const named = (name: string | null): string[] => (name === null ? [] : [name]);
  const places = [...named(known), undefined, ...named(controlDatabase), ...MAINTENANCE_DATABASES];
  let first: unknown = null;
  for (const database of places) {
    try {
      return await openIn(context, database, options.signal);
    } catch (error) {
      options.signal?.throwIfAborted();
      first ??= error;
      if (!isClosedTo(error)) throw error;
    }
  }
  throw first;
}

/**
 * A control session in a database that may stay open when all others are closed: the configured one; else the first of
 * this session's own, postgres and template1 that lets us in and has no tables. Null when there is none.
 */
export async function openAsideOf(
  context: EmergencyContext,
  control: ControlSession,
): Promise<ControlSession | null> {
  const { controlDatabase } = context.settings;
  const places = controlDatabase === null ? MAINTENANCE_DATABASES : [controlDatabase];
  if (controlDatabase === control.facts.database) return control;
  if (controlDatabase === null && !(await hasUserTables(control.client))) return control;
  for (const database of places) {
    if (database === control.facts.database) continue;
    try {
      const other = await openIn(context, database);
      if (database === controlDatabase || !(await hasUserTables(other.client))) return other;
      await other[Symbol.asyncDispose]();
    } catch (error) {
      if (!isClosedTo(error)) throw error;
    }
  }
  return null;
}

async function openIn(
  context: EmergencyContext,
  database: string | undefined,
  signal?: AbortSignal,
): Promise<ControlSession> {
  const open = async (name: string, where = database): Promise<Client> =>
    await connect(context.connection, {
      applicationName: name === '' ? APPLICATION : `${APPLICATION} ${name}`,
      ...(where === undefined ? {} : { database: where }),
    });
  signal?.throwIfAborted();
  const client = await open('');
  try {
    await prepareControlSession(client);
    const facts = await readWriteFacts(client);
    return {
      client,
      facts,
      open,
      [Symbol.asyncDispose]: async () => void (await client.end().catch(() => undefined)),
    };
  } catch (error) {
    await client.end().catch(() => undefined);
    throw error;
  }
}

/**
 * The database takes no connections, does not exist, has no CONNECT for us, is at its limit, or pg_hba.conf has no line.
 * @source PostgreSQL, src/backend/utils/init/postinit.c, CheckMyDatabase
 */
function isClosedTo(error: unknown): boolean {
  const code = systemCode(error instanceof AppError ? error.cause : error);
  return ['55000', '3D000', '42501', '28000', '53300'].includes(code);
}

/** The server has no room for another session. @source PostgreSQL manual, "PostgreSQL Error Codes", too_many_connections */
export function isFull(error: unknown): boolean {
  return systemCode(error instanceof AppError ? error.cause : error) === '53300';
}
