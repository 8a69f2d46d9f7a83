import { messageOf } from '../base/errors.ts';
import { readAutovacuum, switchAutovacuumOff } from '../engines/postgres/table-autovacuum.ts';
import type { AutovacuumRecord, IncidentTable } from '../operations/incident/incident.ts';
import type { DatabaseSessions } from './database-sessions.ts';

/** So many tables at most: those that lost most. */
const MOST_TABLES = 50;

/**
 * Switches the autovacuum of tables off. `write` gets what is about to be changed, and with what it was, before it is.
 * Returns what became of each.
 */
export async function switchTablesOff(
  sessions: DatabaseSessions,
  tables: readonly IncidentTable[],
  write: (record: AutovacuumRecord) => Promise<void>,
): Promise<readonly { readonly event: string; readonly text: string }[]> {
  const done: { event: string; text: string }[] = [];
  const switched = new Set<number>();
  for (const { database, oid, table } of tables) {
    if (oid === null || switched.has(oid) || switched.size === MOST_TABLES) continue;
    switched.add(oid);
    try {
      const before = await sessions.asking(database, client => readAutovacuum(client, oid));
      if (before === null) continue;
      await write({ ...before, database });
      await sessions.asking(database, client => switchAutovacuumOff(client, before));
      done.push({
        event: 'autovacuum off',
        text: `autovacuum is off for ${before.table} until this is resolved`,
      });
    } catch (error) {
      const text = `autovacuum of ${table} could not be switched off: ${messageOf(error)}`;
      done.push({ event: 'autovacuum on', text });
    }
  }
  return done;
}
