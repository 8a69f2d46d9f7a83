import type { TransactionSummary } from '../../engines/postgres/segment-summary.ts';
import { describeRelation, fileKey, type RelationNames } from '../catalog/relation-names.ts';
import type { InstanceContext } from '../instance-context.ts';
import { readActivity } from '../log/log-summaries.ts';
import type { LogView } from '../log/log-view.ts';
import { learnNames } from '../timeline/learn-names.ts';
import { changesOf, describeTable } from '../timeline/table-changes.ts';

/** Tables that got new files with the rows of the old ones. */
export interface Rewrites {
  /** By the position of the commit: the files that it brought, of which rows are copies. */
  readonly files: ReadonlyMap<bigint, ReadonlySet<string>>;
  readonly tables: readonly { readonly lsn: bigint; readonly text: string }[];
}

/**
 * ALTER TABLE and their like write all rows of a table anew, and the log has them as inserts: they are none that are lost. A
 * table that was dropped and made again within one transaction looks the same. TRUNCATE makes a new file as well, but what is
 * then in it was inserted.
 */
export async function readRewrites(
  context: Pick<InstanceContext, 'repository'>,
  view: LogView,
  range: { readonly from: bigint; readonly to: bigint; readonly names: RelationNames },
  signal: AbortSignal,
): Promise<Rewrites> {
  const { names } = range;
  const replaces = ({ created, dropped, outcome }: TransactionSummary): boolean =>
    outcome === 'commit' && created.length > 0 && dropped.length > 0;
  const activity = await readActivity(context, view, range, { signal, keep: replaces });
  await learnNames(activity.transactions, names);
  const files = new Map<bigint, ReadonlySet<string>>();
  const tables: { lsn: bigint; text: string }[] = [];
  for (const transaction of activity.transactions) {
    const lsn = transaction.endLsn;
    if (lsn === null) continue;
    const replaced = await replacedTables(transaction, names);
    if (replaced.size === 0) continue;
    files.set(lsn, new Set(replaced.keys()));
    for (const text of new Set(replaced.values()))
      tables.push({ lsn, text: `${text} (transaction ${transaction.xid})` });
  }
  return { files, tables };
}

/** The new files of a transaction that stand for dropped ones of the same table, with its name. */
async function replacedTables(
  transaction: TransactionSummary,
  names: RelationNames,
): Promise<Map<string, string>> {
  const { created, dropped, endLsn, recordEndLsn, firstLsn } = transaction;
  const before = endLsn ?? firstLsn;
  const { acts } = await changesOf(transaction, names);
  const truncated = new Set(acts.filter(({ act }) => act === 'truncate').map(describeTable));
  const old = new Set<string>();
  for (const file of dropped) {
    const name = await names.nameOf(file, before);
    if (name.kind === 'table') old.add(describeRelation(name));
  }
  const found = new Map<string, string>();
  for (const file of created) {
    const name = await names.nameOf(file, recordEndLsn ?? before);
    const text = describeRelation(name);
    if (name.kind === 'table' && old.has(text) && !truncated.has(text)) found.set(fileKey(file), text);
  }
  return found;
}
