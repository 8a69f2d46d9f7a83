import type { RecordHeaders } from './wal-blocks.ts';
import type { RelationFile } from './wal-transactions.ts';

/** Numbers the relations that a summary speaks of. */
export class RelationTable {
  readonly relations: RelationFile[] = [];
  readonly #byKey = new Map<string, number>();
  /** The number of a relation by the lowest bits of its file, where it is that relation: most lookups end here. */
  readonly #recent = new Int32Array(RECENT).fill(-1);

  /** The number of a relation; given to it when it is new. */
  number(tablespace: number, database: number, file: number): number {
    const slot = file & (RECENT - 1);
    const recent = this.#recent[slot]!;
    if (recent >= 0) {
      const known = this.relations[recent]!;
      if (known.file === file && known.database === database && known.tablespace === tablespace)
        return recent;
    }
    const key = `${tablespace}/${database}/${file}`;
    let index = this.#byKey.get(key);
    if (index === undefined) {
      index = this.relations.push({ tablespace, database, file }) - 1;
      this.#byKey.set(key, index);
    }
    this.#recent[slot] = index;
    return index;
  }

  of(relation: RelationFile): number {
    return this.number(relation.tablespace, relation.database, relation.file);
  }

  ofBlock(headers: RecordHeaders, index: number): number {
    return this.number(headers.tablespace[index]!, headers.database[index]!, headers.file[index]!);
  }

  /** The relations in ascending order of tablespace, database and file, and the place in it of each by its number. */
  sorted(): { readonly relations: readonly RelationFile[]; readonly places: Uint32Array } {
    const order = this.relations.map((_, index) => index);
    order.sort((a, b) => compareRelations(this.relations[a]!, this.relations[b]!));
    const places = new Uint32Array(order.length);
    order.forEach((index, place) => {
      places[index] = place;
    });
    return { relations: order.map(index => this.relations[index]!), places };
  }
}

const RECENT = 1024;

function compareRelations(a: RelationFile, b: RelationFile): number {
  return a.tablespace - b.tablespace || a.database - b.database || a.file - b.file;
}

/** Rows of relations: `[relation, inserted, updated, deleted, relation, …]`, each relation once. */
export class RowCounts {
  readonly items: number[] = [];
  #index: Map<number, number> | null = null;
  #last = 0;

  clear(): void {
    this.items.length = 0;
    this.#index = null;
    this.#last = 0;
  }

  /** `kind`: 0 inserted, 1 updated, 2 deleted. */
  add(relation: number, kind: number, count: number): void {
    const at = this.#place(relation) + 1 + kind;
    this.items[at] = this.items[at]! + count;
  }

  /** Adds all of another's; with `numbers`, what its relations are here. */
  addAll(other: RowCounts, numbers?: Uint32Array): void {
    const { items } = other;
    for (let from = 0; from < items.length; from += ROW_ITEMS) {
      const relation = items[from]!;
      const at = this.#place(numbers === undefined ? relation : numbers[relation]!);
      this.items[at + 1]! += items[from + 1]!;
      this.items[at + 2]! += items[from + 2]!;
      this.items[at + 3]! += items[from + 3]!;
    }
  }

  *entries(): Generator<readonly [relation: number, inserted: number, updated: number, deleted: number]> {
    const { items } = this;
    for (let at = 0; at < items.length; at += ROW_ITEMS)
      yield [items[at]!, items[at + 1]!, items[at + 2]!, items[at + 3]!];
  }

  get total(): number {
    let total = 0;
    for (let at = 0; at < this.items.length; at += ROW_ITEMS)
      total += this.items[at + 1]! + this.items[at + 2]! + this.items[at + 3]!;
    return total;
  }

  #place(relation: number): number {
    const { items } = this;
    if (items[this.#last] === relation) return this.#last;
    this.#last = this.#index === null ? this.#search(relation) : (this.#index.get(relation) ?? -1);
    if (this.#last >= 0) return this.#last;
    this.#last = items.length;
    items.push(relation, 0, 0, 0);
    this.#index?.set(relation, this.#last);
    if (this.#index === null && items.length > MAX_SEARCHED * ROW_ITEMS) {
      this.#index = new Map();
      for (let at = 0; at < items.length; at += ROW_ITEMS) this.#index.set(items[at]!, at);
    }
    return this.#last;
  }

  #search(relation: number): number {
    for (let at = 0; at < this.items.length; at += ROW_ITEMS) if (this.items[at] === relation) return at;
    return -1;
  }
}

export const ROW_ITEMS = 4;
/** Beyond it a map is quicker than looking through. */
const MAX_SEARCHED = 16;

/** How a part of a transaction stands at the end of what was read; the number is stored. */
export const OUTCOME_OPEN = 0;
export const OUTCOME_PREPARED = 1;
export const OUTCOME_COMMITTED = 2;
export const OUTCOME_ABORTED = 3;
/** Ended by a crash: `endAt` is the record that says that the server had none left. */
export const OUTCOME_CRASHED = 4;

/** Of most transactions these lists are empty, and there are tens of thousands in a segment. */
const NONE: readonly number[] = [];

/** What one transaction or subtransaction did in what was read. Positions are bytes from the summary's start. */
export class TransactionPart {
  xid: number;
  firstAt: number;
  /** The transaction that a subtransaction belongs to, where the log said so; else 0. */
  topXid = 0;
  readonly rows = new RowCounts();
  dropped: readonly number[] = NONE;
  created: readonly number[] = NONE;
  /** Of one that ended or was prepared: the subtransactions that ended with it. */
  subxids: readonly number[] = NONE;
  /** It created or dropped a database or a tablespace. */
  changesPlaces = false;
  gid: string | null = null;
  outcome = OUTCOME_OPEN;
  endAt = 0;
  recordEndAt = 0;
  timeUs = 0;

  constructor(xid: number, firstAt: number) {
    this.xid = xid;
    this.firstAt = firstAt;
  }

  /** Makes it the part of another transaction, of which nothing is known yet. */
  reuse(xid: number, firstAt: number): this {
    this.xid = xid;
    this.firstAt = firstAt;
    this.topXid = 0;
    this.rows.clear();
    this.dropped = NONE;
    this.created = NONE;
    this.subxids = NONE;
    this.changesPlaces = false;
    this.gid = null;
    this.outcome = OUTCOME_OPEN;
    this.endAt = 0;
    this.recordEndAt = 0;
    this.timeUs = 0;
    return this;
  }

  /** A copy with its positions and relations as they are in another summary. */
  moved(shift: number, numbers: Uint32Array): TransactionPart {
    const moved = new TransactionPart(this.xid, this.firstAt + shift);
    moved.topXid = this.topXid;
    moved.outcome = this.outcome;
    moved.endAt = this.endAt + shift;
    moved.recordEndAt = this.recordEndAt + shift;
    moved.timeUs = this.timeUs;
    moved.gid = this.gid;
    moved.subxids = this.subxids;
    moved.rows.addAll(this.rows, numbers);
    moved.changesPlaces = this.changesPlaces;
    if (this.dropped.length > 0) moved.dropped = this.dropped.map(number => numbers[number]!);
    if (this.created.length > 0) moved.created = this.created.map(number => numbers[number]!);
    return moved;
  }

  /** Takes what another part did: one of its subtransactions, or an earlier part of itself. */
  absorb(other: TransactionPart): void {
    this.rows.addAll(other.rows);
    if (other.firstAt < this.firstAt) this.firstAt = other.firstAt;
    if (other.dropped.length > 0) this.dropped = [...other.dropped, ...this.dropped];
    if (other.created.length > 0) this.created = [...other.created, ...this.created];
    this.gid ??= other.gid;
    this.changesPlaces ||= other.changesPlaces;
    if (this.topXid === 0 && other.xid === this.xid) this.topXid = other.topXid;
  }

  /** Whether it is to be named however few its rows. */
  get isRemarkable(): boolean {
    return (
      this.dropped.length > 0 ||
      this.created.length > 0 ||
      this.gid !== null ||
      this.changesPlaces ||
      this.outcome === OUTCOME_PREPARED
    );
  }
}
