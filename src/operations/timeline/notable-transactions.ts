import type { TransactionSummary } from '../../engines/postgres/segment-summary.ts';
import type { RelationNames } from '../catalog/relation-names.ts';
import type { ChangeKind } from './described-change.ts';
import { changesOf, type TableAct, type TableRows, type TransactionChanges } from './table-changes.ts';

/** A transaction with what it did, by names. */
export interface ChangingTransaction extends TransactionChanges {
  readonly transaction: TransactionSummary;
}

/** One that stands out, and why. */
export interface NotableTransaction extends ChangingTransaction {
  /** What it did that is worst. */
  readonly kind: ChangeKind;
  readonly subject: TableRows | TableAct;
  /** Rows of its subject; 0 where the log does not say, as of DROP and TRUNCATE. */
  readonly rows: number;
  /** Of the rows that the table had, by the planner's estimate; null when that is not known. */
  readonly share: number | null;
}

export interface NotableSelection {
  readonly notable: readonly NotableTransaction[];
  /** Large ones that are usual for their table: at least three others like it. */
  readonly usual: readonly NotableTransaction[];
}

/** A table that loses so much of its rows at once is told of, however few they are. */
const LARGE_SHARE = 0.5;
/** So many others of at least a third of its size make a transaction usual. */
const USUAL_OTHERS = 3;

const severity: Readonly<Record<ChangeKind, number>> = {
  drop: 4,
  truncate: 4,
  delete: 3,
  update: 2,
  insert: 1,
};

/** Those of the committed transactions that changed tables of users, with names. */
export async function nameTransactions(
  transactions: readonly TransactionSummary[],
  names: RelationNames,
): Promise<ChangingTransaction[]> {
  const changing: ChangingTransaction[] = [];
  for (const transaction of transactions) {
    if (transaction.outcome !== 'commit') continue;
    const changes = await changesOf(transaction, names);
    if (changes.tables.length > 0 || changes.acts.length > 0) changing.push({ transaction, ...changes });
  }
  return changing;
}

/**
 * Chooses what stands out: tables dropped or truncated, rows deleted, updated or inserted by the thousand or most of a
 * table's. What happens to a table again and again at about that size is usual, unless it takes most of its rows.
 */
export function selectNotable(
  changing: readonly ChangingTransaction[],
  options: { readonly minimumRows: number },
): NotableSelection {
  const large = listLarge(changing, options);
  const alike = Map.groupBy(large, kindKey);
  const usualRows = new Map(
    [...alike].map(([key, all]) => [key, all.map(({ rows }) => rows).sort((a, b) => b - a)[USUAL_OTHERS]]),
  );
  const isUsual = (each: NotableTransaction): boolean => {
    if (each.kind === 'drop' || each.kind === 'truncate') return false;
    if (each.kind !== 'insert' && (each.share ?? 0) >= LARGE_SHARE) return false;
    return (usualRows.get(kindKey(each)) ?? 0) * 3 >= each.rows;
  };
  return {
    notable: large.filter(each => !isUsual(each)),
    usual: large.filter(isUsual),
  };
}

/** What is large, usual or not, in the order that it is given in. */
export function listLarge(
  changing: readonly ChangingTransaction[],
  { minimumRows }: { readonly minimumRows: number },
): NotableTransaction[] {
  return changing.flatMap(each => worstOf(each, minimumRows) ?? []);
}

/** In the order of the log; one that is listed twice counts once. */
export function inOrder(changing: readonly ChangingTransaction[]): ChangingTransaction[] {
  const byEnd = new Map<bigint | null, ChangingTransaction>();
  for (const each of changing)
    if (!byEnd.has(each.transaction.endLsn)) byEnd.set(each.transaction.endLsn, each);
  return [...byEnd.values()].sort((a, b) =>
    (a.transaction.endLsn ?? 0n) < (b.transaction.endLsn ?? 0n) ? -1 : 1,
  );
}

/** The worst first: by what was done, then by rows. */
export function bySeverity(a: NotableTransaction, b: NotableTransaction): number {
  return severity[b.kind] - severity[a.kind] || b.rows - a.rows;
}

function kindKey({ kind, subject }: NotableTransaction): string {
  const { database, schema, table, partitionOf } = subject;
  return JSON.stringify([kind, database, partitionOf ?? { schema, name: table }]);
}

function worstOf(changing: ChangingTransaction, minimumRows: number): NotableTransaction | null {
  const { tables, acts } = changing;
  const found: NotableTransaction[] = [];
  for (const subject of acts) {
    const { act } = subject;
    if (act === 'rewrite' || act === 'move') continue;
    found.push({ ...changing, kind: act === 'truncate' ? act : 'drop', subject, rows: 0, share: null });
  }
  for (const subject of tables) {
    for (const [kind, rows] of [
      ['delete', subject.deleted],
      ['update', subject.updated],
      ['insert', subject.inserted],
    ] as const) {
      const share = kind === 'insert' ? null : shareOf(rows, subject.estimatedRows);
      const isMost = kind === 'delete' && rows > 1 && (share ?? 0) >= LARGE_SHARE;
      if (rows >= minimumRows || isMost) found.push({ ...changing, kind, subject, rows, share });
    }
  }
  return found.sort(bySeverity)[0] ?? null;
}

function shareOf(rows: number, estimatedRows: number | null): number | null {
  return estimatedRows === null || estimatedRows <= 0 ? null : Math.min(1, rows / estimatedRows);
}
