import { tryRecordCatalog } from '../catalog/record-catalog.ts';
import { fileKey, nameRelations } from '../catalog/relation-names.ts';
import type { InstanceContext } from '../instance-context.ts';
import { readActivity } from '../log/log-summaries.ts';
import { learnNames } from '../timeline/learn-names.ts';
import { changesOf } from '../timeline/table-changes.ts';
import { type FoundDestroyed, findDestroyed } from './find-destroyed.ts';
import type { UndoTarget } from './find-undo-target.ts';
import { type DestroyedFiles, nothingDestroyed } from './match-tables.ts';
import { newFilesOf } from './replaced-tables.ts';

/** What a transaction destroyed, by the log: in one database, as transactions are. */
export interface DestroyedByTransaction extends DestroyedFiles {
  /** Its oid. */
  readonly database: number;
  readonly segments: number;
}

/**
 * Reads in the log what a transaction destroyed: rows by their positions, and tables whose files it removed.
 *
 * @throws UNDO_REFUSED when that is nothing, or its beginning is not in the log
 */
export async function findDestruction(
  context: InstanceContext,
  target: UndoTarget,
  signal: AbortSignal,
): Promise<DestroyedByTransaction> {
  const { transaction, view } = target;
  const found = await findDestroyed(transaction, { view, from: target.from, begin: target.begin }, signal);
  const { removed, acts, newFiles } =
    transaction.droppedRelations.length === 0 ? nothing : await findLost(context, target, found, signal);
  const database = found.rows[0]?.relation.database ?? removed[0]?.database;
  if (database === undefined) throw nothingDestroyed(transaction.xid);
  return { rows: found.rows, removed, acts, newFiles, database, segments: found.segments };
}

type LostFiles = Pick<DestroyedFiles, 'removed' | 'acts' | 'newFiles'>;

const nothing: LostFiles = { removed: [], acts: [], newFiles: new Map() };

/** Files that went, and what was done to their tables: those that were only rewritten have their rows. */
async function findLost(
  context: InstanceContext,
  { transaction, view }: UndoTarget,
  found: FoundDestroyed,
  signal: AbortSignal,
): Promise<LostFiles> {
  // While the server answers, it says what its tables are called: that tells TRUNCATE from DROP.
  await tryRecordCatalog(context, { signal, onEvent: () => undefined });
  const names = await nameRelations(context, view, { signal });
  const activity = await readActivity(
    context,
    view,
    { from: found.from, to: transaction.endLsn },
    { signal, keep: each => each.endLsn === transaction.lsn },
  );
  await learnNames(activity.transactions, names);
  const [summary] = activity.transactions;
  if (summary === undefined) return nothing;
  const created = new Set(summary.created.map(fileKey));
  const { acts } = await changesOf(summary, names);
  const newFiles = await newFilesOf(summary, names);
  return { removed: summary.dropped.filter(each => !created.has(fileKey(each))), acts, newFiles };
}
