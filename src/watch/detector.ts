import { findRelationsAt } from '../engines/postgres/live-relations.ts';
import { findOwner, type TransactionOwner } from '../engines/postgres/transaction-owner.ts';
import type { WalTransaction } from '../engines/postgres/wal-transactions.ts';
import type { Incident, IncidentTable } from '../operations/incident/incident.ts';

import { ChangeCounter, type CounterEvents } from './change-counter.ts';
import type { ChangeRates } from './change-rates.ts';
import type { DatabaseSessions } from './database-sessions.ts';
import { countedTables, countFindings, isTable, lostTable, lostTables } from './findings.ts';
import type { LiveTables } from './live-tables.ts';
import type { OpenTransaction, RowCount } from './open-transaction.ts';
import { type Finding, judge, type RuledActor, type RuledTable, rowLimit } from './rules.ts';
import type { Sighting } from './sighting.ts';
import type { WatchSettings } from './watch-settings.ts';

export interface DetectorOptions {
  readonly settings: WatchSettings;
  readonly sessions: DatabaseSessions;
  readonly tables: LiveTables;
  readonly rates: ChangeRates;
  /** Something is out of the ordinary. Called while the log is read: it must return at once. */
  readonly onSight: (transaction: OpenTransaction, sighting: Sighting) => void;
  /** Whether this transaction is responded to already. */
  readonly isKnown: (transaction: OpenTransaction) => boolean;
  /** Whether this end was seen before, when the log is sent once more. */
  readonly isOld: (end: WalTransaction) => boolean;
  /** A transaction that changed rows ended. */
  readonly onEnd: (transaction: OpenTransaction, end: WalTransaction) => void;
  readonly onSavepointLost: (transaction: OpenTransaction) => void;
  readonly onLost: (transactions: readonly OpenTransaction[]) => void;
}

/** From so many rows of a relation on, a transaction is looked at: below, no rule can be reached by rows. */
const LOOKED_AT_ROWS = 500;
/** An estimate of rows that decides about an alert is no older. */
const SURE_MS = 2000;
/** Statements that make and drop tables come by the thousand; then only their ends are looked at. */
const CATALOG_LOOKS_PER_SECOND = 50;
const CATALOG_DELAY_MS = 5;

interface Look {
  owner: Promise<TransactionOwner | null> | null;
  actor: RuledActor | null;
  askedMs: number;
  /** How many changes of the catalog of relations were looked at. */
  catalogSeen: number;
  lost: IncidentTable[];
}

/** Finds out of what is counted what is out of the ordinary, by the rules and with what the server says. */
export class Detector implements CounterEvents {
  readonly counter: ChangeCounter;
  readonly #options: DetectorOptions;
  readonly #looks = new WeakMap<OpenTransaction, Look>();
  #catalogLooks = 0;
  #catalogSecond = 0;

  constructor(options: DetectorOptions) {
    this.#options = options;
    const { shareRows, rows } = options.settings;
    this.counter = new ChangeCounter(this, Math.min(LOOKED_AT_ROWS, shareRows, rows));
    this.counter.movedCatalogs = options.tables.movedCatalogs;
  }

  onRows(transaction: OpenTransaction, count: RowCount): void {
    const { tables, isKnown } = this.#options;
    this.#ownerOf(transaction);
    if (isKnown(transaction)) return;
    const relation = tables.relation(count.relation);
    if (relation === null) void this.#askFirst(transaction, count).catch(() => undefined);
    else if (isTable(relation)) this.#look(transaction, count);
  }

  onCatalog(transaction: OpenTransaction): void {
    const second = Math.floor(performance.now() / 1000);
    if (second !== this.#catalogSecond) {
      this.#catalogSecond = second;
      this.#catalogLooks = 0;
    }
    const look = this.#lookOf(transaction);
    if (look.catalogSeen < 0 || this.#catalogLooks >= CATALOG_LOOKS_PER_SECOND) return;
    this.#catalogLooks += 1;
    const seen = look.catalogSeen;
    look.catalogSeen = -1;
    // What is committed in the same breath needs no look.
    setTimeout(() => {
      look.catalogSeen = seen;
      if (!transaction.isEnded) void this.#lookAtCatalog(transaction, look).catch(() => undefined);
    }, CATALOG_DELAY_MS);
  }

  onEnd(transaction: OpenTransaction, end: WalTransaction): void {
    const { tables, rates, isKnown, isOld, onEnd } = this.#options;
    const isCommit = (end.kind === 'commit' || end.kind === 'commit prepared') && !isOld(end);
    if (transaction.created.length > 0 || transaction.catalogChanges.length > 0)
      for (const { relation } of transaction.totals.values()) tables.expire(relation.database);
    onEnd(transaction, end);
    // Behind the rules, which ask what was usual before.
    if (isCommit) rates.add(transaction, end);
    const isLost = end.droppedRelations.length + transaction.databasesDropped.length > 0;
    if (isCommit && (isLost || this.#looks.has(transaction)) && !isKnown(transaction))
      void this.#lookAtEnd(transaction, end).catch(() => undefined);
  }

  onSavepointLost(transaction: OpenTransaction): void {
    this.#options.onSavepointLost(transaction);
  }

  onLost(transactions: readonly OpenTransaction[]): void {
    this.#options.onLost(transactions);
  }

  /** It was nobody's alarm so far: looks on, now that it is known who does it. */
  lookOn(transaction: OpenTransaction): void {
    for (const count of transaction.totals.values())
      if (count.deleted + count.updated > 0) this.#look(transaction, count);
  }

  /** Which rule says something of what a transaction has changed by now; null: none. */
  ruleOf(transaction: OpenTransaction): Incident['rule'] | null {
    const { settings, tables } = this.#options;
    const { actor } = this.#lookOf(transaction);
    for (const finding of countFindings(transaction, tables).findings) {
      const verdict = judge(settings, finding, this.#circumstances(finding, actor, new Date()));
      if (verdict !== null) return verdict.rule;
    }
    return null;
  }

  #lookOf(transaction: OpenTransaction): Look {
    let look = this.#looks.get(transaction);
    if (look === undefined) {
      look = { owner: null, actor: null, askedMs: Number.NEGATIVE_INFINITY, catalogSeen: 0, lost: [] };
      this.#looks.set(transaction, look);
    }
    return look;
  }

  /** Asked as early as possible: when it has ended nobody knows any more. */
  #ownerOf(transaction: OpenTransaction): Promise<TransactionOwner | null> {
    const look = this.#lookOf(transaction);
    if (look.owner !== null) return look.owner;
    look.owner = this.#findOwner(transaction, look);
    // Whoever needs it sees why it is not known; mostly nobody does.
    look.owner.catch(() => undefined);
    return look.owner;
  }

  async #findOwner(transaction: OpenTransaction, look: Look): Promise<TransactionOwner | null> {
    const owner = await this.#options.sessions.control(client => findOwner(client, transaction.xid));
    if (owner === null) return null;
    look.actor = owner;
    if (owner.topXid !== null && owner.topXid !== transaction.xid) {
      const top = this.counter.assign(transaction.xid, owner.topXid);
      if (top !== null) this.#looks.set(top, look);
    }
    return owner;
  }

  async #askFirst(transaction: OpenTransaction, count: RowCount): Promise<void> {
    const { tables } = this.#options;
    tables.expire(count.relation.database);
    const relation = await tables.ask(count.relation).catch(() => null);
    if (relation !== null && isTable(relation) && !transaction.isEnded) this.#look(transaction.root, count);
  }

  #look(transaction: OpenTransaction, count: RowCount): void {
    const { settings, tables, rates, isKnown } = this.#options;
    if (isKnown(transaction) || transaction.isEnded) return;
    const look = this.#lookOf(transaction);
    let left = Number.POSITIVE_INFINITY;
    for (const finding of countFindings(transaction, tables).findings) {
      const usualRows = rates.baseline.usualRows(finding.table, finding.act);
      const limit = rowLimit(settings, { table: finding.table, actor: look.actor, usualRows });
      if ((finding.rows ?? 0) < limit.rows) {
        left = Math.min(left, limit.rows - (finding.rows ?? 0));
        continue;
      }
      if (limit.rule === 'share' && performance.now() - look.askedMs > SURE_MS) {
        look.askedMs = performance.now();
        void tables
          .ask(count.relation)
          .catch(() => null)
          .then(() => this.#look(transaction.root, count))
          .catch(() => undefined);
        return;
      }
      if (this.#raise(transaction, finding)) return;
    }
    count.next = Math.max(count.deleted, count.updated) + left;
  }

  #raise(transaction: OpenTransaction, finding: Finding): boolean {
    const { settings, tables, onSight } = this.#options;
    const { actor } = this.#lookOf(transaction);
    const verdict = judge(settings, finding, this.#circumstances(finding, actor, new Date()));
    if (verdict === null) return false;
    onSight(transaction, {
      ...{ database: finding.table.database, canHold: true, isOver: false },
      ...{ xid: transaction.xid, beginLsn: transaction.isWhole ? transaction.firstLsn : null },
      ...{ rule: verdict.rule, policy: verdict.policy, tables: countedTables(transaction, tables) },
      owner: this.#ownerOf(transaction),
      judgeFor: known =>
        judge(settings, finding, this.#circumstances(finding, known, new Date()))?.policy ?? null,
    });
    return true;
  }

  async #lookAtCatalog(transaction: OpenTransaction, look: Look): Promise<void> {
    const { tables, sessions, isKnown } = this.#options;
    const changes = transaction.catalogChanges.slice(look.catalogSeen);
    look.catalogSeen = transaction.catalogChanges.length;
    const [first] = changes;
    const database = first === undefined ? null : tables.databaseName(first.database);
    if (database === null) return;
    void this.#ownerOf(transaction).catch(() => undefined);
    for (const act of ['delete', 'update'] as const) {
      const ctids = changes.filter(each => each.act === act).map(({ ctid }) => ctid);
      const found =
        ctids.length === 0 ? [] : await sessions.asking(database, client => findRelationsAt(client, ctids));
      for (const relation of found.filter(isTable)) {
        const isLost = act === 'delete' || isTruncated(transaction, relation.relation.tablespace);
        if (isLost) look.lost.push(lostTable(relation, act === 'delete' ? 'drop' : 'truncate', tables));
      }
    }
    if (!transaction.isEnded && !isKnown(transaction)) this.#raiseLost(transaction, look.lost, false);
  }

  /** A table that was truncated or dropped, of which the rules say something. */
  #raiseLost(transaction: OpenTransaction, lost: readonly IncidentTable[], isOver: boolean): void {
    const { settings, onSight } = this.#options;
    const { actor } = this.#lookOf(transaction);
    const findings = lost.map(table => ({ table: ruledTable(table), act: table.act as 'drop', rows: null }));
    const judgeFor = (known: RuledActor | null): ReturnType<typeof judge> => {
      for (const finding of findings) {
        const verdict = judge(settings, finding, this.#circumstances(finding, known, new Date()));
        if (verdict !== null) return verdict;
      }
      return null;
    };
    const verdict = judgeFor(actor);
    const [first] = lost;
    if (verdict === null || first === undefined) return;
    onSight(transaction, {
      ...{ database: first.database, canHold: false, isOver, tables: lost },
      ...{ xid: transaction.xid, beginLsn: transaction.isWhole ? transaction.firstLsn : null },
      ...{ rule: verdict.rule, policy: verdict.policy, owner: this.#ownerOf(transaction) },
      judgeFor: known => judgeFor(known)?.policy ?? null,
    });
  }

  /** Whatever it did before its end came quicker than the questions: its end says it. */
  async #lookAtEnd(transaction: OpenTransaction, end: WalTransaction): Promise<void> {
    const { tables, isKnown, onEnd } = this.#options;
    const lost = await lostTables(transaction, end, tables);
    if (lost.length > 0) this.#raiseLost(transaction, lost, true);
    if (!isKnown(transaction) && this.#looks.has(transaction)) {
      for (const count of countFindings(transaction, tables).unknown)
        await tables.ask(count.relation).catch(() => null);
      for (const finding of countFindings(transaction, tables).findings)
        if (!isKnown(transaction)) this.#raise(transaction, finding);
    }
    if (isKnown(transaction)) onEnd(transaction, end);
  }

  #circumstances(
    finding: Finding,
    actor: RuledActor | null,
    at: Date,
  ): { readonly actor: RuledActor | null; readonly usualRows: number; readonly at: Date } {
    return { actor, at, usualRows: this.#options.rates.baseline.usualRows(finding.table, finding.act) };
  }
}

/** TRUNCATE gives a table new files in its own place and changes nothing else in the catalog of relations. */
function isTruncated(transaction: OpenTransaction, tablespace: number): boolean {
  const isRowsOnly = [...transaction.totals.values()].every(
    ({ relation, inserted, deleted }) => relation.file !== 1259 || inserted + deleted === 0,
  );
  return isRowsOnly && transaction.created.some(each => each.tablespace === tablespace);
}

function ruledTable({ database, schema, table, rowsBefore }: IncidentTable): RuledTable {
  return { database, schema: schema ?? '', table, also: null, rows: rowsBefore };
}
