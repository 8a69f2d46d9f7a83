import { messageOf } from '../../base/errors.ts';
import type { Session } from '../../engines/postgres/connection.ts';
import { putAutovacuumBack } from '../../engines/postgres/table-autovacuum.ts';
import type { AutovacuumRecord } from './incident.ts';

/** A table whose autovacuum could not be put back, and why, in a sentence. */
export interface LeftTable {
  readonly record: AutovacuumRecord;
  readonly problem: string;
}

/**
 * Gives tables back the settings of autovacuum that they had before an incident. Returns those that could not be; tables that
 * were dropped since need nothing.
 */
export async function putTablesBack(
  open: (database: string) => Promise<Session>,
  records: readonly AutovacuumRecord[],
): Promise<readonly LeftTable[]> {
  const left: LeftTable[] = [];
  const leave = (record: AutovacuumRecord, error: unknown): void => {
    const problem = `autovacuum of ${record.table} could not be put back: ${messageOf(error)}`;
    left.push({ record, problem });
  };
  for (const [database, own] of Map.groupBy(records, ({ database }) => database)) {
    let client: Session | null = null;
    try {
      client = await open(database);
      for (const record of own)
        await putAutovacuumBack(client, record).catch((error: unknown) => leave(record, error));
    } catch (error) {
      for (const record of own) leave(record, error);
    } finally {
      await client?.end().catch(() => undefined);
    }
  }
  return left;
}
