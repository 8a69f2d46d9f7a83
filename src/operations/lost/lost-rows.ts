import type { RowChange, RowPlace } from '../../engines/postgres/wal-row-changes.ts';
import type { RelationFile } from '../../engines/postgres/wal-transactions.ts';

/** A transaction that is lost: committed behind the target, and none of the disaster's. */
export interface LostTransaction {
  readonly xid: number;
  readonly timeUs: bigint;
  /** Of the record that committed it. */
  readonly lsn: bigint;
}

/** What became of one row between the target and the end: the sum of all that the lost transactions did to it. */
export interface LostRow {
  readonly relation: RelationFile;
  /** Its version at the target; null: it was made since. */
  readonly origin: RowPlace | null;
  /** Its last version that is not of the disaster; null: it was deleted. */
  place: RowPlace | null;
  /** Indices of the transactions that changed it first and last. */
  readonly first: number;
  last: number;
  /** It goes on from a version that the disaster made. */
  readonly isOnTop: boolean;
}

/** Where no row ever is. */
const NO_PLACE: RowPlace = 0;
/** More than these are not held in memory. */
export const MOST_ROWS = 1_000_000;

/** Follows the rows of one relation from version to version, in the order of the log. */
class RelationHistory {
  readonly relation: RelationFile;
  readonly #versions = new Map<RowPlace, LostRow>();
  readonly #disaster = new PlaceSet();
  readonly #copies = new PlaceSet();

  constructor(relation: RelationFile) {
    this.relation = relation;
  }

  /** What the disaster did: rows that were changed before stay as they were just before it. */
  spoil({ created }: RowChange): void {
    for (const place of created) this.#disaster.add(place);
  }

  /** A rewrite of the table wrote rows into a new file: which version of the old one each is, nobody says. */
  copy({ created }: RowChange): void {
    for (const place of created) this.#copies.add(place);
  }

  /** @returns rows that were not known before */
  apply({ removed, created }: RowChange, transaction: number): LostRow[] {
    if (removed === null) {
      return created.map(place => {
        this.#disaster.delete(place);
        this.#copies.delete(place);
        return this.#begin({ origin: null, place, isOnTop: false }, transaction);
      });
    }
    const [place = null] = created;
    const isOnTop = this.#disaster.delete(removed);
    const known = isOnTop ? undefined : this.#versions.get(removed);
    this.#versions.delete(removed);
    if (known === undefined) {
      const origin = isOnTop ? null : this.#copies.delete(removed) ? NO_PLACE : removed;
      return [this.#begin({ origin, place, isOnTop }, transaction)];
    }
    known.place = place;
    known.last = transaction;
    if (place !== null) this.#versions.set(place, known);
    return [];
  }

  #begin(row: Pick<LostRow, 'origin' | 'place' | 'isOnTop'>, transaction: number): LostRow {
    const begun = { relation: this.relation, ...row, first: transaction, last: transaction };
    if (row.place !== null) this.#versions.set(row.place, begun);
    return begun;
  }
}

/** Places by the million, a few bytes for each page. */
class PlaceSet {
  readonly #blocks = new Map<number, Uint8Array>();

  add(place: RowPlace): void {
    const [block, at, bit] = this.#where(place);
    let bytes = this.#blocks.get(block);
    if (bytes === undefined || at >= bytes.length) {
      const grown = new Uint8Array(at + 16);
      grown.set(bytes ?? []);
      this.#blocks.set(block, grown);
      bytes = grown;
    }
    bytes[at]! |= bit;
  }

  /** @returns whether it was in it */
  delete(place: RowPlace): boolean {
    const [block, at, bit] = this.#where(place);
    const bytes = this.#blocks.get(block);
    if (bytes === undefined || ((bytes[at] ?? 0) & bit) === 0) return false;
    bytes[at]! &= ~bit;
    return true;
  }

  #where(place: RowPlace): [block: number, at: number, bit: number] {
    const item = place % 65_536;
    return [Math.floor(place / 65_536), item >> 3, 1 << (item & 7)];
  }
}

/** Follows the rows of all relations. */
export class RowHistory {
  readonly rows: LostRow[] = [];
  readonly #relations = new Map<string, RelationHistory>();

  /** @returns false when there are too many to go on */
  apply(
    relation: { readonly key: string; readonly file: RelationFile },
    change: RowChange,
    transaction: number | 'disaster' | 'rewrite',
  ): boolean {
    let history = this.#relations.get(relation.key);
    if (history === undefined) {
      history = new RelationHistory(relation.file);
      this.#relations.set(relation.key, history);
    }
    if (transaction === 'disaster') history.spoil(change);
    else if (transaction === 'rewrite') history.copy(change);
    else for (const row of history.apply(change, transaction)) this.rows.push(row);
    return this.rows.length <= MOST_ROWS;
  }
}

export type LostOperation = 'insert' | 'update' | 'delete' | 'gone' | 'on top';

/** What has to be done to bring a row from its state at the target to the last; `gone`: it came and went in between. */
export function operationOf({ origin, place, isOnTop }: LostRow): LostOperation {
  if (isOnTop) return 'on top';
  if (origin === null) return place === null ? 'gone' : 'insert';
  return place === null ? 'delete' : 'update';
}

/**
 * Where in the order of transactions its statement stands: an insert where the row came, as others may refer to it from then
 * on; anything else where it was last changed.
 */
export function placeInOrder(row: LostRow): number {
  return operationOf(row) === 'insert' ? row.first : row.last;
}
