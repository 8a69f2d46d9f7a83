import { FIRST_USER_FILE } from '../engines/postgres/catalog-snapshot.ts';
import { isLaterXid } from '../engines/postgres/segment-summary-content.ts';
import { RecordHeaders, relationOf } from '../engines/postgres/wal-blocks.ts';
import { decodeEvent, isPageImage } from '../engines/postgres/wal-events.ts';
import {
  RMGR_DATABASE,
  RMGR_HEAP,
  RMGR_HEAP2,
  RMGR_SMGR,
  RMGR_STANDBY,
  RMGR_XACT,
  RMGR_XLOG,
  type WalRecord,
} from '../engines/postgres/wal-record.ts';
import {
  oldRowPosition,
  ROWS_DELETED,
  ROWS_INSERTED,
  ROWS_NONE,
  rowsCount,
  rowsKind,
} from '../engines/postgres/wal-rows.ts';
import { decodeRunning } from '../engines/postgres/wal-running.ts';
import { decodeStorage } from '../engines/postgres/wal-storage.ts';
import {
  decodeAssignment,
  decodeTransaction,
  type WalTransaction,
} from '../engines/postgres/wal-transactions.ts';
import { fileKey } from '../operations/catalog/relation-names.ts';
import { type CatalogChange, OpenTransaction, RowCount } from './open-transaction.ts';

/** Who is told of what the log says. Called while it is read: what they do must take no time. */
export interface CounterEvents {
  /** A count got to its `next`. */
  onRows(transaction: OpenTransaction, count: RowCount): void;
  /** Rows of the catalog of relations were changed, or files of a database are gone. */
  onCatalog(transaction: OpenTransaction): void;
  /** It ended, or was prepared. Of one that only inserted nothing is told. */
  onEnd(transaction: OpenTransaction, end: WalTransaction): void;
  /** A savepoint was rolled back. */
  onSavepointLost(transaction: OpenTransaction): void;
  /** The server was started anew: these are gone without a word of the log. */
  onLost(transactions: readonly OpenTransaction[]): void;
}

/** @source catalog/pg_class.dat: where the catalog of relations lies as long as it is not rewritten itself */
const PG_CLASS = 1259;
/** Beyond it subtransactions are added to what they belong to and are not told apart any more. */
const MOST_OPEN = 200_000;
/** More of them are not looked at one by one: so many tables go with a schema. */
const MOST_CATALOG_CHANGES = 10_000;

/** Counts what running transactions do, record by record. */
export class ChangeCounter {
  readonly #events: CounterEvents;
  readonly #firstNext: number;
  readonly #headers = new RecordHeaders();
  readonly #open = new Map<number, OpenTransaction>();
  #last: OpenTransaction | null = null;
  /** Transactions from here on began behind where reading began; null until the server has said one. */
  #wholeFrom: number | null = null;
  /** Files of catalogs of relations that were rewritten (VACUUM FULL pg_class). */
  movedCatalogs: ReadonlySet<string> = new Set();

  /** @param firstNext how many rows of a relation are the first to be told of */
  constructor(events: CounterEvents, firstNext: number) {
    this.#events = events;
    this.#firstNext = firstNext;
  }

  /** Reading begins anew: of what runs it is not known what it did before. */
  begin(): void {
    this.#wholeFrom = null;
  }

  /** Transactions from this xid on have begun since reading began. */
  wholeFrom(xid: number): void {
    this.#wholeFrom ??= xid;
  }

  /** @throws CORRUPT when the record is not what its headers promise */
  add(record: WalRecord): void {
    const { rmgr } = record;
    if (rmgr === RMGR_XACT) this.#addTransaction(record);
    else if (rmgr === RMGR_STANDBY) this.#addRunning(record);
    else if (rmgr === RMGR_XLOG) this.#addEvent(record);
    else if (record.xid !== 0) {
      const transaction = this.#of(record);
      if (rmgr === RMGR_HEAP || rmgr === RMGR_HEAP2) this.#addRows(record, transaction);
      else if (rmgr === RMGR_SMGR || rmgr === RMGR_DATABASE) this.#addStorage(record, transaction);
    }
  }

  /** Says what the log does not: whose subtransaction one is. */
  assign(xid: number, topXid: number): OpenTransaction | null {
    const sub = this.#open.get(xid);
    if (sub === undefined) return null;
    if (xid === topXid || sub.top !== null) return sub.root;
    let top = this.#open.get(topXid);
    if (top === undefined) {
      // The transaction itself has written nothing yet.
      top = new OpenTransaction(topXid, sub.firstLsn, sub.isWhole);
      this.#open.set(topXid, top);
    }
    this.#join(top, sub);
    return top;
  }

  find(xid: number): OpenTransaction | null {
    return this.#open.get(xid) ?? null;
  }

  #of(record: WalRecord): OpenTransaction {
    const last = this.#last;
    if (last !== null && last.xid === record.xid) return last;
    let found = this.#open.get(record.xid);
    if (found === undefined) {
      const isWhole = this.#wholeFrom !== null && !isLaterXid(this.#wholeFrom, record.xid);
      found = new OpenTransaction(record.xid, record.lsn, isWhole);
      this.#open.set(record.xid, found);
    }
    this.#last = found;
    return found;
  }

  #addRows(record: WalRecord, transaction: OpenTransaction): void {
    const headers = this.#headers;
    headers.read(record);
    if (headers.topXid !== 0) this.assign(record.xid, headers.topXid);
    const kind = rowsKind(record, headers);
    if (kind === ROWS_NONE) return;
    const count = countOf(transaction, headers, this.#firstNext);
    if (kind === ROWS_INSERTED) {
      const rows = rowsCount(record, headers);
      count.inserted += rows;
      if (count.sum !== null) count.sum.inserted += rows;
      return;
    }
    const { sum } = count;
    if (kind === ROWS_DELETED) {
      count.deleted += 1;
      if (sum !== null) sum.deleted += 1;
    } else {
      count.updated += 1;
      if (sum !== null) sum.updated += 1;
    }
    if (count.relation.file < FIRST_USER_FILE || this.movedCatalogs.size > 0) {
      if (this.#isRelationCatalog(count)) this.#addCatalogChange(transaction, { kind, record, count });
      if (count.relation.file < FIRST_USER_FILE) return;
    }
    this.#check(transaction, sum ?? count);
  }

  #check(transaction: OpenTransaction, count: RowCount): void {
    if (count.deleted < count.next && count.updated < count.next) return;
    // Until whoever is told says otherwise.
    count.next = Number.POSITIVE_INFINITY;
    this.#events.onRows(transaction.root, count);
  }

  #addCatalogChange(
    transaction: OpenTransaction,
    change: { readonly kind: number; readonly record: WalRecord; readonly count: RowCount },
  ): void {
    if (transaction.catalogChanges.length >= MOST_CATALOG_CHANGES) return;
    const found: CatalogChange = {
      act: change.kind === ROWS_DELETED ? 'delete' : 'update',
      ctid: oldRowPosition(change.record, this.#headers),
      database: change.count.relation.database,
    };
    for (const each of new Set([transaction, transaction.root])) each.catalogChanges.push(found);
    this.#events.onCatalog(transaction.root);
  }

  #isRelationCatalog({ relation }: RowCount): boolean {
    if (relation.file === PG_CLASS) return true;
    return this.movedCatalogs.size > 0 && this.movedCatalogs.has(`${relation.database}/${relation.file}`);
  }

  #addStorage(record: WalRecord, transaction: OpenTransaction): void {
    const event = decodeStorage(record);
    const both = new Set([transaction, transaction.root]);
    if (event?.kind === 'relation created' && event.fork === 0) {
      for (const each of both) each.created.push(event.relation);
      if (transaction.root.catalogChanges.length > 0) this.#events.onCatalog(transaction.root);
    } else if (event?.kind === 'database dropped') {
      for (const each of both) each.databasesDropped.push(event.database);
    }
  }

  #addTransaction(record: WalRecord): void {
    const assignment = decodeAssignment(record);
    if (assignment !== null) {
      for (const xid of assignment.subxids) this.assign(xid, assignment.topXid);
      return;
    }
    const end = decodeTransaction(record);
    if (end === null || end.xid === 0) return;
    this.#last = null;
    const transaction = this.#open.get(end.xid) ?? this.#unseen(record, end);
    if (transaction.top !== null) {
      this.#forgetSavepoint(transaction, end.subxids);
      return;
    }
    const isAbort = end.kind === 'abort' || end.kind === 'abort prepared';
    for (const xid of end.subxids) {
      const sub = this.#open.get(xid);
      if (sub !== undefined) this.#join(transaction, sub);
    }
    transaction.isPrepared = end.kind === 'prepare';
    if (isAbort || transaction.counts.size + transaction.subs.size + end.droppedRelations.length > 0)
      this.#events.onEnd(transaction, end);
    if (end.kind !== 'prepare') this.#delete(transaction);
  }

  #delete(transaction: OpenTransaction): void {
    transaction.isEnded = true;
    this.#open.delete(transaction.xid);
    for (const { xid } of transaction.subs) this.#open.delete(xid);
    this.#last = null;
  }

  /** One of which nothing was read but its end. */
  #unseen(record: WalRecord, end: WalTransaction): OpenTransaction {
    const found = new OpenTransaction(end.xid, record.lsn, false);
    this.#open.set(end.xid, found);
    return found;
  }

  /** A subtransaction that was rolled back counts no more, nor do those within it. */
  #forgetSavepoint(sub: OpenTransaction, within: readonly number[]): void {
    const { root } = sub;
    for (const xid of [sub.xid, ...within]) {
      const each = this.#open.get(xid);
      if (each !== undefined) root.leave(each);
      this.#open.delete(xid);
    }
    this.#events.onSavepointLost(root);
  }

  #join(top: OpenTransaction, sub: OpenTransaction): void {
    if (sub === top || sub.top !== null) return;
    // What it was for its own is now part of a whole.
    for (const each of [sub, ...sub.subs]) for (const sum of top.join(each)) this.#check(top, sum);
    sub.subs.clear();
    if (this.#open.size <= MOST_OPEN) return;
    top.subs.delete(sub);
    this.#open.delete(sub.xid);
    if (this.#last === sub) this.#last = null;
  }

  #addRunning(record: WalRecord): void {
    const running = decodeRunning(record);
    if (running === null) return;
    this.#wholeFrom ??= running.nextXid;
    // The xids of aborted transactions that a crashed session left without a word.
    for (const [xid, transaction] of this.#open)
      if (transaction.top === null && isLaterXid(running.oldestRunningXid, xid)) {
        this.#delete(transaction);
        this.#events.onLost([transaction]);
      }
  }

  #addEvent(record: WalRecord): void {
    if (isPageImage(record)) this.#addPages(record);
    const event = decodeEvent(record);
    if (event === null) return;
    if (event.kind === 'end of recovery' || (event.kind === 'checkpoint' && event.shutdown)) this.reset();
  }

  /** A page of a new file, written as a whole. */
  #addPages(record: WalRecord): void {
    if (record.xid === 0) return;
    this.#headers.read(record);
    if (this.#headers.count === 0) return;
    const transaction = this.#of(record);
    const key = fileKey(relationOf(this.#headers, 0));
    for (const each of new Set([transaction, transaction.root])) each.copied.add(key);
  }

  /** No transaction runs any more but prepared ones. */
  reset(): void {
    const lost = [...this.#open.values()].filter(each => each.top === null && !each.isPrepared);
    for (const transaction of lost) this.#delete(transaction);
    if (lost.length > 0) this.#events.onLost(lost);
  }
}

function countOf(transaction: OpenTransaction, headers: RecordHeaders, next: number): RowCount {
  const file = headers.file[0]!;
  const database = headers.database[0]!;
  const { last } = transaction;
  if (last !== null && last.relation.file === file && last.relation.database === database) return last;
  const tablespace = headers.tablespace[0]!;
  const count = transaction.countOf(
    `${tablespace}/${database}/${file}`,
    () => new RowCount({ tablespace, database, file }, next),
  );
  transaction.last = count;
  return count;
}
