import { messageOf } from '../../base/errors.ts';
import type { Session } from '../../engines/postgres/connection.ts';
import { putAutovacuumBack } from '../../engines/postgres/table-autovacuum.ts';
import type { AutovacuumRecord } from './incident.ts';

/**
 * Gives tables back the settings of autovacuum that they had before an incident. Returns a sentence for each that could not
 * be; tables that were dropped since need nothing.
 */
export async function putTablesBack(
  open: (database: string) => Promise<Session>,
  records: readonly AutovacuumRecord[],
): Promise<readonly string[]> {
  const problems: string[] = [];
  for (const [database, own] of Map.groupBy(records, ({ database }) => database)) {
    let client: Session | null = null;
    try {
      client = await open(database);
      for (const record of own)
        await putAutovacuumBack(client, record).catch((error: unknown) => {
          problems.push(`autovacuum of ${record.table} could not be put back: ${messageOf(error)}`);
        });
    } catch (error) {
      for (const { table } of own)
        problems.push(`autovacuum of ${table} could not be put back: ${messageOf(error)}`);
    } finally {
      await client?.end().catch(() => undefined);
    }
  }
  return problems;
}
