import type { TransactionSummary } from '../../engines/postgres/segment-summary.ts';
import { describeRelation, fileKey, type RelationNames } from '../catalog/relation-names.ts';

/**
 * Follows tables from file to file: TRUNCATE and rewrites give a table new files, and when that is dropped before a catalog
 * was recorded, none has them. Of a transaction that replaced the files of just one table, the first new file is the
 * table's own.
 *
 * @param transactions in the order of their ends
 */
export async function learnNames(
  transactions: readonly TransactionSummary[],
  names: RelationNames,
): Promise<void> {
  for (const { created, dropped, endLsn, recordEndLsn } of transactions) {
    if (created.length === 0 || dropped.length === 0 || endLsn === null) continue;
    const droppedKeys = new Set(dropped.map(fileKey));
    const createdKeys = new Set(created.map(fileKey));
    const made = created.filter(each => !droppedKeys.has(fileKey(each))).sort((a, b) => a.file - b.file);
    const [first] = made;
    if (first === undefined || (await names.nameOf(first, recordEndLsn ?? endLsn)).kind !== 'unknown')
      continue;
    const old = [];
    for (const each of dropped) {
      if (!createdKeys.has(fileKey(each))) old.push(await names.nameOf(each, endLsn));
    }
    const tables = old.filter(each => each.kind === 'table' && each.relation.database === first.database);
    const [table] = tables;
    if (table?.name == null || new Set(tables.map(describeRelation)).size !== 1) continue;
    for (const each of made) {
      // Of the others only a TOAST relation has rows, and those are none of the table's.
      const { database } = table;
      const part = {
        database,
        kind: 'index',
        name: null,
        table: table.name,
        partitionOf: null,
        estimatedRows: null,
      } as const;
      names.learn(each, each === first ? table : part);
    }
  }
}
