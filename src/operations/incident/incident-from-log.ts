import type { FoundTransaction } from '../timeline/find-transaction.ts';
import type { TableLabel } from '../timeline/table-changes.ts';
import { type Incident, type IncidentAct, type IncidentTable, newIncidentId } from './incident.ts';

/** Half of a table at once is rarely meant. */
const LIKELY_SHARE = 0.5;

/** The rule of an incident that no agent has noticed. */
export const FOUND_IN_LOG = 'found in the log';

/** Whether nobody noticed it as it happened. */
export function isFromLog({ rule }: Incident): boolean {
  return rule.name === FOUND_IN_LOG;
}

/** A disaster that nobody noticed when it happened, as the log has it: who did it stays unknown. */
export function incidentFromLog(
  found: FoundTransaction,
  owner: Pick<Incident, 'instance' | 'systemIdentifier' | 'toolVersion'>,
  noticed: { readonly now: Date; readonly random: Uint8Array; readonly when: string },
): Incident {
  const { transaction, timeline } = found;
  const at = noticed.now.toISOString();
  const tables = tablesOf(found);
  return {
    format: 1,
    id: newIncidentId(noticed.now, noticed.random),
    sequence: 1,
    instance: owner.instance,
    systemIdentifier: owner.systemIdentifier,
    toolVersion: owner.toolVersion,
    severity: 'critical',
    status: 'open',
    resolution: null,
    detectedAt: at,
    updatedAt: at,
    rule: {
      name: FOUND_IN_LOG,
      explanation: `${transaction.summary}, seen ${noticed.when}`,
      confidence: tables.some(isLikely) ? 'likely' : 'possible',
    },
    transaction: {
      xid: transaction.xid,
      timeline,
      beginLsn: transaction.firstLsn,
      endLsn: transaction.commitLsn,
      outcome: 'committed',
      endedAt: transaction.time,
    },
    tables,
    culprit: null,
    guard: { policy: 'alert', snapshot: null, autovacuumOff: [], cancelled: false },
    events: [
      ...(transaction.time === null
        ? []
        : [{ at: transaction.time, event: 'committed', text: `transaction ${transaction.xid} committed` }]),
      { at, event: 'detected', text: `${transaction.summary}: found in the log ${noticed.when}` },
    ],
  };
}

/** What a transaction did to each table, the worst first. */
function tablesOf({ transaction }: FoundTransaction): IncidentTable[] {
  const whole = transaction.acts.flatMap(each => {
    const { act } = each;
    if (act === 'rewrite' || act === 'move') return [];
    return [tableOf(each, act === 'truncate' ? 'truncate' : 'drop', null)];
  });
  const rows = transaction.tables.flatMap(each => [
    ...(each.deleted > 0 ? [tableOf(each, 'delete', each.deleted)] : []),
    ...(each.updated > 0 ? [tableOf(each, 'update', each.updated)] : []),
  ]);
  return [...whole, ...rows.sort((a, b) => (b.rows ?? 0) - (a.rows ?? 0))];
}

function tableOf(label: TableLabel, act: IncidentAct, rows: number | null): IncidentTable {
  const { schema, table } = label;
  return {
    act,
    database: label.database ?? table,
    schema,
    table,
    oid: null,
    rows,
    rowsBefore: rowsBefore(label.estimatedRows, rows),
  };
}

/** The planner's estimate, if it can be one of this table: at least so many rows were there as were destroyed. */
function rowsBefore(estimated: number | null, rows: number | null): number | null {
  if (estimated === null || rows === null) return estimated;
  return estimated * 2 < rows ? null : Math.max(estimated, rows);
}

function isLikely({ act, rows, rowsBefore }: IncidentTable): boolean {
  if (act === 'drop' || act === 'truncate') return true;
  return rows !== null && rowsBefore !== null && rowsBefore > 0 && rows / rowsBefore >= LIKELY_SHARE;
}
