import { findLikelyOwner, type TransactionOwner } from '../engines/postgres/transaction-owner.ts';
import type { WalTransaction } from '../engines/postgres/wal-transactions.ts';
import { worstFirst } from '../operations/incident/describe-incident.ts';
import type { IncidentTable } from '../operations/incident/incident.ts';
import type { DatabaseSessions } from './database-sessions.ts';
import { statementWords } from './sighting.ts';

/** Whose a transaction was that has just ended, by what sessions did last; null where nobody can say. */
export async function guessOwner(
  sessions: DatabaseSessions,
  tables: readonly IncidentTable[],
  { timeUs }: WalTransaction,
): Promise<TransactionOwner | null> {
  const [worst] = worstFirst(tables);
  if (worst === undefined) return null;
  const at = new Date(Number(timeUs / 1000n));
  const ended = { database: worst.database, at, words: statementWords[worst.act] };
  return await sessions.control(client => findLikelyOwner(client, ended)).catch(() => null);
}
