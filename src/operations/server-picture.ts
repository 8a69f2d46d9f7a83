import { connect, withConnection } from '../engines/postgres/connection.ts';
import type { ConnectionSettings } from '../engines/postgres/connection-target.ts';
import { readServerFacts, type ServerFacts } from '../engines/postgres/server-facts.ts';
import { type DatabaseTotals, readDatabaseTotals } from '../engines/postgres/server-facts-totals.ts';

/** A running server: its settings, and what is in its databases. */
export interface ServerPicture {
  readonly facts: ServerFacts;
  readonly totals: DatabaseTotals;
}

/** Asks a server about itself and all its databases. @throws DATABASE_UNREACHABLE, DATABASE_DENIED, ENGINE_VERSION */
export async function pictureServer(
  connection: ConnectionSettings,
  signal: AbortSignal,
): Promise<ServerPicture> {
  const facts = await withConnection(connection, { signal }, client => readServerFacts(client, signal));
  const totals = await readDatabaseTotals(
    database => connect(connection, { database, signal }),
    facts.databases,
    signal,
  );
  return { facts, totals };
}

/** Whether an agent of ours streams the log: what it is called on the server begins like this. */
export function isStreamed({ logReceivers }: Pick<ServerFacts, 'logReceivers'>): boolean {
  return logReceivers.some(name => name.startsWith('aishell_'));
}

/**
 * Whether the server's log comes to this program, by archive_command or by the agent: `elsewhere` when archive_command is
 * not ours.
 */
export function archivingOf(
  facts: Pick<ServerFacts, 'archiveMode' | 'archiveCommand' | 'archiveLibrary' | 'logReceivers'>,
): 'on' | 'off' | 'elsewhere' {
  if (isStreamed(facts)) return 'on';
  if (facts.archiveMode === 'off') return 'off';
  return facts.archiveLibrary === '' && /\bwal-archive\b/.test(facts.archiveCommand) ? 'on' : 'elsewhere';
}
