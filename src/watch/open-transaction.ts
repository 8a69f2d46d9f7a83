import type { RelationFile } from '../engines/postgres/wal-transactions.ts';

/** Rows of one relation that a transaction has changed. */
export class RowCount {
  inserted = 0;
  updated = 0;
  deleted = 0;
  /** Whoever watches is told when `updated` or `deleted` gets here. */
  next: number;
  readonly relation: RelationFile;
  /** Where the rows of the whole transaction are added up; null: here. */
  sum: RowCount | null = null;

  constructor(relation: RelationFile, next: number) {
    this.relation = relation;
    this.next = next;
  }

  add(other: RowCount, sign: 1 | -1 = 1): void {
    this.inserted += sign * other.inserted;
    this.updated += sign * other.updated;
    this.deleted += sign * other.deleted;
  }
}

/** A row of the catalog of relations that was deleted, or replaced by a new version. */
export interface CatalogChange {
  readonly act: 'delete' | 'update';
  /** Where the old version is: until the transaction ends, everybody else still finds it there. */
  readonly ctid: string;
  readonly database: number;
}

/** A transaction or subtransaction that has not ended, as far as the log says. */
export class OpenTransaction {
  readonly xid: number;
  /** Where its first record lies, of those that were read. */
  firstLsn: bigint;
  /** Nothing of it was missed: it began behind where reading began. */
  readonly isWhole: boolean;
  /** Of a subtransaction, where it is known. */
  top: OpenTransaction | null = null;
  readonly subs = new Set<OpenTransaction>();
  /** By relation, what it has changed itself. */
  readonly counts = new Map<string, RowCount>();
  /** The same of all of it, with its subtransactions; null as long as it has none. */
  sums: Map<string, RowCount> | null = null;
  /** Files made for relations. */
  readonly created: RelationFile[] = [];
  /** Files into which it wrote whole pages, by their keys: rows that CLUSTER and its like carry over are no inserts. */
  readonly copied = new Set<string>();
  readonly catalogChanges: CatalogChange[] = [];
  /** Databases whose files it has removed. */
  readonly databasesDropped: number[] = [];
  /** Prepared for a commit in two phases: it has no session. */
  isPrepared = false;
  isEnded = false;
  /** Where most records go. */
  last: RowCount | null = null;

  constructor(xid: number, firstLsn: bigint, isWhole: boolean) {
    this.xid = xid;
    this.firstLsn = firstLsn;
    this.isWhole = isWhole;
  }

  get root(): OpenTransaction {
    return this.top ?? this;
  }

  /** By relation, rows of all of it. */
  get totals(): ReadonlyMap<string, RowCount> {
    return this.sums ?? this.counts;
  }

  /** Rows of a relation that it changes itself, added up where those of the whole are. */
  countOf(key: string, make: () => RowCount): RowCount {
    let count = this.counts.get(key);
    if (count === undefined) {
      count = make();
      this.counts.set(key, count);
      if (this.top !== null || this.sums !== null) count.sum = this.root.sumOf(key, count);
    }
    return count;
  }

  /** Makes another one a part of this; gives the sums that changed with it. */
  join(sub: OpenTransaction): RowCount[] {
    if (this.sums === null) {
      for (const [key, count] of this.counts) {
        count.sum = this.sumOf(key, count);
        count.sum.add(count);
      }
      this.sums ??= new Map();
    }
    sub.top = this;
    sub.sums = null;
    this.subs.add(sub);
    for (const each of sub.created) this.created.push(each);
    for (const each of sub.copied) this.copied.add(each);
    for (const each of sub.catalogChanges) this.catalogChanges.push(each);
    for (const each of sub.databasesDropped) this.databasesDropped.push(each);
    if (sub.firstLsn < this.firstLsn) this.firstLsn = sub.firstLsn;
    return [...sub.counts].map(([key, count]) => {
      count.sum = this.sumOf(key, count);
      count.sum.add(count);
      return count.sum;
    });
  }

  /** Takes a part out again, which was rolled back. */
  leave(sub: OpenTransaction): void {
    if (!this.subs.delete(sub)) return;
    for (const count of sub.counts.values()) count.sum?.add(count, -1);
    removeAll(this.created, sub.created);
    removeAll(this.catalogChanges, sub.catalogChanges);
  }

  private sumOf(key: string, { relation, next }: RowCount): RowCount {
    this.sums ??= new Map();
    let sum = this.sums.get(key);
    if (sum === undefined) {
      sum = new RowCount(relation, next);
      this.sums.set(key, sum);
    }
    return sum;
  }
}

function removeAll<T>(list: T[], gone: readonly T[]): void {
  if (gone.length === 0) return;
  const left = list.filter(each => !gone.includes(each));
  list.splice(0, list.length, ...left);
}
