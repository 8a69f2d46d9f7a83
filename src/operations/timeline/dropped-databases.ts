import { nextSegment, segmentStart } from '../../engines/postgres/lsn.ts';
import type { TransactionSummary } from '../../engines/postgres/segment-summary.ts';
import type { RelationNames } from '../catalog/relation-names.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type LogActivity, readSummaries } from '../log/log-summaries.ts';
import type { LogView } from '../log/log-view.ts';
import type { ChangingTransaction } from './notable-transactions.ts';
import { changesOf } from './table-changes.ts';

/** @source catalog/pg_database.dat: the catalog of databases, which all of them share */
const PG_DATABASE = 1262;

/** The transactions that dropped whole databases: their tables are not listed anywhere in the log. */
export async function droppedDatabases(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  log: { readonly view: LogView; readonly activity: LogActivity; readonly names: RelationNames },
  signal: AbortSignal,
): Promise<ChangingTransaction[]> {
  const { view, activity, names } = log;
  const found: ChangingTransaction[] = [];
  for (const { lsn, xid, database } of activity.databasesDropped) {
    const transaction = await findCommit(context, { view, lsn, xid, to: activity.to }, signal);
    // ALTER DATABASE … SET TABLESPACE removes files, too, and leaves the database in the catalog.
    const isDropped = transaction?.rows.some(each => each.relation.file === PG_DATABASE && each.deleted > 0);
    if (transaction === null || isDropped !== true) continue;
    const changes = await changesOf(transaction, names);
    const name = (await names.databaseOf(database, lsn - 1n)) ?? `with number ${database}`;
    const label = { database: null, schema: null, table: name, partitionOf: null, estimatedRows: null };
    found.push({ ...changes, transaction, acts: [{ act: 'drop database', ...label }, ...changes.acts] });
  }
  return found;
}

/** The files are removed a moment before the commit, which may be in the next segment. */
async function findCommit(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  drop: { readonly view: LogView; readonly lsn: bigint; readonly xid: number; readonly to: bigint },
  signal: AbortSignal,
): Promise<TransactionSummary | null> {
  const { view, lsn, xid } = drop;
  const from = segmentStart(lsn, view.segmentSize);
  const end = nextSegment(nextSegment(lsn, view.segmentSize), view.segmentSize);
  const to = end < drop.to ? end : drop.to;
  for await (const summary of readSummaries(context, view, { from, to }, { signal })) {
    for (const each of summary.transactions())
      if (each.xid === xid && each.outcome === 'commit' && (each.endLsn ?? 0n) > lsn) return each;
  }
  return null;
}
