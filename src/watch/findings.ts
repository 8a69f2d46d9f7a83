import type { LiveRelation } from '../engines/postgres/live-relations.ts';
import type { TransactionSummary } from '../engines/postgres/segment-summary.ts';
import type { WalTransaction } from '../engines/postgres/wal-transactions.ts';
import type { IncidentTable } from '../operations/incident/incident.ts';
import { changesOf } from '../operations/timeline/table-changes.ts';
import type { LiveTables } from './live-tables.ts';
import type { OpenTransaction, RowCount } from './open-transaction.ts';
import type { Finding } from './rules.ts';

/** Tables that an incident lists, at most: those that lost most. */
const MOST_LISTED = 1000;

type CountedTransaction = Pick<OpenTransaction, 'totals' | 'created'>;

/** What a transaction has deleted and updated, by table; partitions count for the whole. */
export function countFindings(
  transaction: CountedTransaction,
  tables: LiveTables,
): { readonly findings: readonly Finding[]; readonly unknown: readonly RowCount[] } {
  const found = new Map<string, { finding: Finding; rows: number }>();
  const unknown: RowCount[] = [];
  for (const count of transaction.totals.values()) {
    if ((count.deleted === 0 && count.updated === 0) || isMadeBy(transaction, count)) continue;
    const relation = tables.relation(count.relation);
    if (relation === null) unknown.push(count);
    if (relation === null || !isTable(relation)) continue;
    const table = tables.whole(relation);
    for (const [act, rows] of [
      ['delete', count.deleted],
      ['update', count.updated],
    ] as const) {
      if (rows === 0) continue;
      const key = JSON.stringify([act, table.database, table.schema, table.table]);
      const total = (found.get(key)?.rows ?? 0) + rows;
      found.set(key, { finding: { table, act, rows: total }, rows: total });
    }
  }
  const findings = [...found.values()].sort((a, b) => b.rows - a.rows).map(({ finding }) => finding);
  return { findings, unknown };
}

/** The same as an incident lists it: every table and partition that lost anything. */
export function countedTables(transaction: CountedTransaction, tables: LiveTables): IncidentTable[] {
  const listed: IncidentTable[] = [];
  for (const count of transaction.totals.values()) {
    const relation = tables.relation(count.relation);
    if (relation === null || !isTable(relation) || isMadeBy(transaction, count)) continue;
    if (count.deleted > 0) listed.push({ ...tableOf(relation, tables), act: 'delete', rows: count.deleted });
    if (count.updated > 0) listed.push({ ...tableOf(relation, tables), act: 'update', rows: count.updated });
  }
  return listed.sort((a, b) => (b.rows ?? 0) - (a.rows ?? 0)).slice(0, MOST_LISTED);
}

/** Tables that a transaction has truncated or dropped, as its end says. */
export async function lostTables(
  transaction: OpenTransaction,
  end: WalTransaction,
  tables: LiveTables,
): Promise<IncidentTable[]> {
  const listed: IncidentTable[] = [];
  if (end.droppedRelations.length > 0) {
    const { created, copied } = transaction;
    const isPlain = created.length === 0 || !dropsRelations(transaction);
    const kept = isPlain
      ? null
      : await tables.stillThere({ removed: end.droppedRelations, made: created, xid: end.xid });
    const { acts } = await changesOf(summaryOf(transaction, end), tables.names, { kept, copied });
    for (const { act, database, schema, table, estimatedRows } of acts) {
      if (act !== 'truncate' && act !== 'drop') continue;
      const relation = end.droppedRelations
        .map(each => tables.relation(each))
        .find(each => each?.schema === schema && each.name === table);
      listed.push({
        ...{ act, database: database ?? '', schema, table, rows: null, rowsBefore: estimatedRows },
        oid: relation?.oid ?? null,
      });
    }
  }
  for (const oid of transaction.databasesDropped) listed.push(...tablesOfDatabase(oid, tables));
  return listed.sort((a, b) => (b.rowsBefore ?? 0) - (a.rowsBefore ?? 0)).slice(0, MOST_LISTED);
}

/** A table that is lost as a whole, before its transaction ends. */
export function lostTable(
  relation: LiveRelation,
  act: 'truncate' | 'drop',
  tables: LiveTables,
): IncidentTable {
  return { ...tableOf(relation, tables), act, rows: null };
}

/** Rows of the catalog of relations went: so it does more than TRUNCATE, which the log alone tells of. */
function dropsRelations({ catalogChanges }: OpenTransaction): boolean {
  return catalogChanges.some(({ act }) => act === 'delete');
}

/** What it has made itself was nobody's before. */
function isMadeBy({ created }: CountedTransaction, { relation }: RowCount): boolean {
  return created.some(each => each.file === relation.file && each.database === relation.database);
}

export function isTable({ kind, schema }: LiveRelation): boolean {
  return kind === 'table' && schema !== 'pg_catalog';
}

function tablesOfDatabase(oid: number, tables: LiveTables): IncidentTable[] {
  const all = tables.tablesOf(oid);
  const database = tables.databaseName(oid) ?? `database ${oid}`;
  const rowsBefore = all.reduce((sum, { rows }) => sum + (rows ?? 0), 0);
  // The database itself comes first: it has more rows than any of its tables.
  const whole: IncidentTable = {
    ...{
      act: 'drop',
      database,
      schema: null,
      table: `database ${database}`,
      oid: null,
      rows: null,
      rowsBefore,
    },
  };
  return [whole, ...all.map(each => lostTable(each, 'drop', tables))];
}

function tableOf(
  { oid, schema, name, rows, relation }: LiveRelation,
  tables: LiveTables,
): Omit<IncidentTable, 'act' | 'rows'> {
  const database = tables.databaseName(relation.database) ?? `database ${relation.database}`;
  return { database, schema, table: name, oid, rowsBefore: rows };
}

function summaryOf(transaction: OpenTransaction, end: WalTransaction): TransactionSummary {
  return {
    ...{ xid: end.xid, firstLsn: transaction.firstLsn, endLsn: end.lsn, recordEndLsn: end.endLsn },
    ...{ outcome: 'commit', timeUs: end.timeUs, gid: end.gid, database: null },
    rows: [...transaction.totals.values()],
    dropped: end.droppedRelations,
    created: transaction.created,
  };
}
