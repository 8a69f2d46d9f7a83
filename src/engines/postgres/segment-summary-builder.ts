import { PageSet } from './change-map-pages.ts';
import type { KeptRecord, Second, SummaryContent, SummaryFacts } from './segment-summary-content.ts';
import { type EndedOptions, EndedTransactions } from './segment-summary-ended.ts';
import { RelationOwners } from './segment-summary-owners.ts';
import {
  OUTCOME_ABORTED,
  OUTCOME_COMMITTED,
  OUTCOME_CRASHED,
  OUTCOME_PREPARED,
  RelationTable,
  TransactionPart,
} from './segment-summary-parts.ts';
import type { StoredSummary } from './segment-summary-stored.ts';
import { RecordHeaders } from './wal-blocks.ts';
import { decodeEvent } from './wal-events.ts';
import {
  mainDataOf,
  RMGR_DATABASE,
  RMGR_FIRST_CUSTOM,
  RMGR_HEAP,
  RMGR_HEAP2,
  RMGR_SMGR,
  RMGR_STANDBY,
  RMGR_TABLESPACE,
  RMGR_XACT,
  RMGR_XLOG,
  type WalRecord,
} from './wal-record.ts';
import { ROWS_NONE, rowsCount, rowsKind } from './wal-rows.ts';
import { decodeStorage } from './wal-storage.ts';
import {
  decodeAssignment,
  decodeTransaction,
  isCommit,
  plainEndTimeUs,
  timeNumber,
  type WalTransaction,
} from './wal-transactions.ts';

/** What a {@link SummaryBuilder} keeps. */
export interface BuilderOptions extends EndedOptions {
  /** Where the positions count from: the start of the first segment. */
  readonly origin: bigint;
  /** False: pages are left out. */
  readonly pages?: boolean;
  /** That a page is overwritten counts before this position alone; null: nowhere. Left out: everywhere. */
  readonly target?: bigint | null;
  /** False: transactions, and what they did, are left out of summaries. */
  readonly transactions?: boolean;
  /** True where nothing earlier will be put in front: what only serves to join it with what is earlier is left out. */
  readonly isFirst?: boolean;
}

/**
 * Gathers what records and summaries of successive parts of the log say, in their order. A summary of a part and the
 * part's records come to the same.
 */
export class SummaryBuilder {
  readonly relations = new RelationTable();
  readonly pages = new PageSet();
  readonly open = new Map<number, TransactionPart>();
  kept: KeptRecord[] = [];
  resetAt = -1;

  readonly #options: BuilderOptions;
  readonly #headers = new RecordHeaders();
  readonly #ended: EndedTransactions;
  readonly #owners: RelationOwners;
  #lastPart: TransactionPart | null = null;
  /** One that nothing refers to any more: most are counted and forgotten, and making a new one each time takes time. */
  #spare: TransactionPart | null = null;
  readonly #withPages: boolean;
  readonly #targetAt: number;

  constructor(options: BuilderOptions) {
    this.#options = options;
    this.#ended = new EndedTransactions(options);
    this.#owners = new RelationOwners(this.relations, { keepsLocks: !(options.isFirst ?? false) });
    this.#withPages = options.pages ?? true;
    this.#targetAt =
      options.target === undefined ? Infinity : options.target === null ? -1 : this.#at(options.target);
  }

  /** The content of a summary; the parts in it stay the builder's. */
  content(facts: Omit<SummaryFacts, 'resetAt' | 'folded'>): SummaryContent {
    return {
      facts: { ...facts, resetAt: this.resetAt, folded: this.#ended.folded },
      relations: this.relations,
      kept: this.kept,
      orphans: this.#owners.orphans,
      locks: this.#owners.locks,
      open: [...this.open.values()],
      ended: this.#ended.parts,
      seconds: this.seconds,
      pages: this.pages,
    };
  }

  get seconds(): ReadonlyMap<number, Second> {
    return this.#ended.seconds;
  }

  /** @throws CORRUPT when the record is not what its headers promise */
  addRecord(record: WalRecord): void {
    const headers = this.#headers;
    headers.read(record);
    if (this.#withPages && headers.count > 0) this.#addPages(record);
    const { rmgr } = record;
    const part = record.xid === 0 ? null : this.#partOf(record);
    if (part !== null && headers.topXid !== 0 && headers.topXid !== part.xid) part.topXid = headers.topXid;
    if (rmgr === RMGR_HEAP || rmgr === RMGR_HEAP2) {
      if (part === null) return;
      const kind = rowsKind(record, headers);
      if (kind === ROWS_NONE) return;
      part.rows.add(this.relations.ofBlock(headers, 0), kind, rowsCount(record, headers));
    } else if (rmgr === RMGR_XACT) {
      this.#addTransaction(record);
    } else if (rmgr === RMGR_XLOG) {
      this.#addEvent(record);
    } else if (
      rmgr === RMGR_SMGR ||
      rmgr === RMGR_DATABASE ||
      rmgr === RMGR_TABLESPACE ||
      rmgr >= RMGR_FIRST_CUSTOM
    ) {
      this.#addStorage(record);
    } else if (rmgr === RMGR_STANDBY) {
      this.#addLocks(record);
    }
  }

  /** Takes over a summary of what follows. Its crossing records are not its: see {@link addRecord}. */
  addSummary(summary: StoredSummary): void {
    this.#lastPart = null;
    const shift = this.#at(summary.lsn);
    const numbers = Uint32Array.from(summary.relations, relation => this.relations.of(relation));
    for (const { at, endAt, bytes } of summary.kept())
      this.kept.push({ at: at + shift, endAt: endAt + shift, bytes });
    if (this.#options.transactions ?? true) this.#addTransactions(summary, { shift, numbers });
    if (!this.#withPages) return;
    // One that holds the target was made for it.
    const counts = shift < this.#targetAt;
    summary.forEachPage((relation, fork, block, mark) => {
      this.pages.add(numbers[relation]! * 4 + fork, block, counts ? mark : 0);
    });
  }

  #addTransactions(
    summary: StoredSummary,
    place: { readonly shift: number; readonly numbers: Uint32Array },
  ): void {
    const { shift, numbers } = place;
    const { orphans, locks } = summary.loose();
    const found = this.#owners.adopt(locks);
    for (const number of orphans) this.#owners.addOrphan(numbers[number]!);
    this.#addSeconds(summary, numbers);
    this.#ended.addFolded(summary.facts.folded);
    const take = (part: TransactionPart): TransactionPart => {
      const moved = part.moved(shift, numbers);
      if (found.size > 0)
        for (const xid of [part.xid, ...part.subxids]) this.#addCreated(moved, found.get(xid) ?? []);
      return moved;
    };
    const { resetAt } = summary.facts;
    if (resetAt >= 0) this.#addAroundReset(summary, { resetAt: resetAt + shift, take });
    else this.#addEnded(summary, { take, isEach: found.size > 0 });
    if (resetAt < 0) for (const part of summary.openParts()) this.#addOpen(take(part));
  }

  #addPages(record: WalRecord): void {
    const headers = this.#headers;
    const counts = this.#targetAt === Infinity || record.at < this.#targetAt;
    for (let index = 0; index < headers.count; index += 1) {
      const fork = this.relations.ofBlock(headers, index) * 4 + (headers.fork[index]! & 3);
      this.pages.add(fork, headers.block[index]!, counts ? headers.overwritten[index]! : 0);
    }
  }

  #at(lsn: bigint): number {
    return Number(lsn - this.#options.origin);
  }

  #partOf(record: WalRecord): TransactionPart {
    const last = this.#lastPart;
    if (last !== null && last.xid === record.xid) return last;
    let part = this.open.get(record.xid);
    if (part === undefined) {
      part = this.#spare?.reuse(record.xid, record.at) ?? new TransactionPart(record.xid, record.at);
      this.#spare = null;
      this.open.set(record.xid, part);
    }
    this.#lastPart = part;
    return part;
  }

  #addTransaction(record: WalRecord): void {
    const timeUs = plainEndTimeUs(record, this.#headers.mainStart);
    if (timeUs !== null) {
      const part = this.#partOf(record);
      part.timeUs = timeUs;
      this.#end(part, record, isCommit(record) ? OUTCOME_COMMITTED : OUTCOME_ABORTED);
      return;
    }
    const assignment = decodeAssignment(record);
    if (assignment !== null) this.#addAssignment(record, assignment);
    const ending = decodeTransaction(record);
    if (ending === null) return;
    if (ending.droppedRelations.length > 0) this.#keep(record);
    // A record of no transaction can drop relations; there is nothing else to it.
    if (ending.xid !== 0) this.#addEnding(record, ending);
  }

  #addAssignment(
    record: WalRecord,
    { topXid, subxids }: { readonly topXid: number; readonly subxids: readonly number[] },
  ): void {
    for (const xid of subxids) {
      let part = this.open.get(xid);
      if (part === undefined) {
        part = new TransactionPart(xid, record.at);
        this.open.set(xid, part);
      }
      part.topXid = topXid;
    }
  }

  #addEnding(record: WalRecord, ending: WalTransaction): void {
    const { xid, kind } = ending;
    const part = this.open.get(xid) ?? new TransactionPart(xid, record.at);
    for (const subxid of ending.subxids) this.#absorbOpen(part, subxid);
    part.subxids = this.#options.isFirst ? [] : ending.subxids;
    part.gid ??= ending.gid;
    if (ending.droppedRelations.length > 0)
      part.dropped = ending.droppedRelations.map(relation => this.relations.of(relation));
    part.timeUs = timeNumber(Number(ending.timeUs));
    if (kind === 'prepare') {
      part.outcome = OUTCOME_PREPARED;
      part.endAt = record.at;
      part.recordEndAt = record.endsAt;
      this.open.set(xid, part);
      this.#lastPart = null;
    } else {
      const isAbort = kind === 'abort' || kind === 'abort prepared';
      this.#end(part, record, isAbort ? OUTCOME_ABORTED : OUTCOME_COMMITTED);
    }
  }

  #end(part: TransactionPart, record: WalRecord, outcome: number): void {
    this.#lastPart = null;
    this.open.delete(part.xid);
    part.outcome = outcome;
    part.endAt = record.at;
    part.recordEndAt = record.endsAt;
    this.#ended.count(part);
    if (!this.#ended.add(part)) this.#spare = part;
  }

  #absorbOpen(part: TransactionPart, xid: number): void {
    const sub = this.open.get(xid);
    if (sub === undefined || sub === part) return;
    this.open.delete(xid);
    part.absorb(sub);
  }

  #addEvent(record: WalRecord): void {
    const event = decodeEvent(record);
    if (event === null) return;
    this.#keep(record);
    if (event.kind === 'end of recovery' || (event.kind === 'checkpoint' && event.shutdown)) {
      const at = record.at;
      if (this.resetAt < 0) this.resetAt = at;
      this.#crash(at);
    }
  }

  /** At this place no transaction was running but prepared ones: those still open went with a crash. */
  #crash(at: number): void {
    this.#lastPart = null;
    const lost = [...this.open.values()].filter(part => part.outcome !== OUTCOME_PREPARED);
    for (const part of lost.sort((a, b) => a.xid - b.xid)) {
      this.open.delete(part.xid);
      part.outcome = OUTCOME_CRASHED;
      part.endAt = at;
      part.recordEndAt = at;
      this.#ended.add(part);
    }
  }

  #addStorage(record: WalRecord): void {
    const event = decodeStorage(record);
    if (event === null) return;
    this.#keep(record);
    if (record.xid !== 0 && record.rmgr !== RMGR_SMGR) this.#partOf(record).changesPlaces = true;
    if (event.kind !== 'relation created' || event.fork !== 0) return;
    const number = this.relations.of(event.relation);
    if (record.xid === 0) this.#owners.addOrphan(number);
    else this.#addCreated(this.#partOf(record), [number]);
  }

  /** @source storage/standbydefs.h, xl_standby_locks */
  #addLocks(record: WalRecord): void {
    // One without an xid lists the locks of all transactions, again.
    if ((record.info & XLOG_OPERATION_MASK) !== STANDBY_LOCK || record.xid === 0) return;
    const data = mainDataOf(record);
    const locks = Array.from({ length: data.count(12) }, () => ({
      xid: data.u32(),
      database: data.u32(),
      file: data.u32(),
    }));
    for (const [xid, created] of this.#owners.adopt(locks)) {
      const part = this.open.get(xid);
      if (part !== undefined) this.#addCreated(part, created);
    }
  }

  #addCreated(part: TransactionPart, numbers: readonly number[]): void {
    part.created = [...part.created, ...numbers];
  }

  #keep(record: WalRecord): void {
    const bytes = record.bytes.slice(record.start, record.start + record.length);
    this.kept.push({ at: record.at, endAt: record.endsAt, bytes });
  }

  #addSeconds(summary: StoredSummary, numbers: Uint32Array): void {
    for (const { second, commits, aborts, rows } of summary.secondTotals()) {
      const totals = this.#ended.second(second * 1e6);
      totals.commits += commits;
      totals.aborts += aborts;
      totals.rows.addAll(rows, numbers);
    }
  }

  #addEnded(
    summary: StoredSummary,
    options: { readonly take: (part: TransactionPart) => TransactionPart; readonly isEach: boolean },
  ): void {
    const { minimumRows = 0 } = this.#options;
    for (const entry of summary.endedEntries()) {
      const isJoined = this.open.has(entry.xid) || (entry.hasSubtransactions && this.open.size > 0);
      const isListed = entry.rows >= minimumRows || entry.isRemarkable;
      if (!isJoined && !isListed && !options.isEach) continue;
      const part = options.take(entry.part());
      this.#joinEarlier(part);
      this.#ended.add(part);
    }
  }

  /** The same where the server started anew in between: what was open then and did nothing more is gone. */
  #addAroundReset(
    summary: StoredSummary,
    reset: { readonly resetAt: number; readonly take: (part: TransactionPart) => TransactionPart },
  ): void {
    const { resetAt, take } = reset;
    if (this.resetAt < 0) this.resetAt = resetAt;
    const ended = [...summary.endedEntries()].map(entry => take(entry.part()));
    const open = summary.openParts().map(take);
    for (const part of [...ended, ...open]) if (part.firstAt < resetAt) this.#joinEarlier(part);
    for (const part of ended) if (part.endAt < resetAt) this.#ended.add(part);
    this.#crash(resetAt);
    for (const part of ended) {
      if (part.firstAt >= resetAt) this.#joinEarlier(part);
      if (part.endAt >= resetAt) this.#ended.add(part);
    }
    for (const part of open) {
      if (part.firstAt >= resetAt) this.#joinEarlier(part);
      this.open.set(part.xid, part);
    }
  }

  /** Adds what the transaction did before, and counts that for the second in which it was committed. */
  #joinEarlier(part: TransactionPart): void {
    for (const xid of [part.xid, ...part.subxids]) {
      const earlier = this.open.get(xid);
      if (earlier === undefined) continue;
      this.open.delete(xid);
      part.absorb(earlier);
      if (part.outcome === OUTCOME_COMMITTED) this.#ended.second(part.timeUs).rows.addAll(earlier.rows);
    }
    if (this.#options.isFirst) part.subxids = [];
  }

  #addOpen(part: TransactionPart): void {
    this.#joinEarlier(part);
    this.open.set(part.xid, part);
  }
}

/** @source catalog/pg_control.h */
const XLOG_OPERATION_MASK = 0xf0;
/** @source storage/standbydefs.h, XLOG_STANDBY_LOCK */
const STANDBY_LOCK = 0x00;
