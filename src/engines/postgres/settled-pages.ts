import type { ForkChanges } from './change-map.ts';
import type { RelationFile } from './wal-transactions.ts';

/**
 * Pages of main forks that already are what a replay will leave them as, or that it overwrites whole later on: until then it need
 * not look at them. One bit for each page of a relation.
 */
export class SettledPages {
  /** By the number of the file alone, which hardly ever is that of two relations. */
  readonly #relations = new Map<number, SettledRelation[]>();
  #last: SettledRelation | null = null;

  /** Whether there are none at all. */
  get isEmpty(): boolean {
    return this.#relations.size === 0;
  }

  /** Adds the pages `[first, end)` of a relation, but for those of `changes` that are not overwritten first. */
  add(relation: RelationFile, first: number, end: number, changes: ForkChanges | null): void {
    let found = this.#find(relation.tablespace, relation.database, relation.file);
    if (found === null) {
      found = { relation, bits: new Uint8Array(0) };
      const same = this.#relations.get(relation.file);
      if (same === undefined) this.#relations.set(relation.file, [found]);
      else same.push(found);
      this.#last = null;
    }
    if (found.bits.length * 8 < end) {
      const bits = new Uint8Array(Math.ceil(end / 8));
      bits.set(found.bits);
      found.bits = bits;
    }
    const { bits } = found;
    const [wholeFrom, wholeEnd] = [Math.min(end, Math.ceil(first / 8) * 8), Math.trunc(end / 8) * 8];
    for (let block = first; block < wholeFrom; block += 1) bits[block >>> 3]! |= 1 << (block & 7);
    if (wholeEnd > wholeFrom) bits.fill(0xff, wholeFrom / 8, wholeEnd / 8);
    for (let block = Math.max(wholeFrom, wholeEnd); block < end; block += 1)
      bits[block >>> 3]! |= 1 << (block & 7);
    for (const [index, block] of changes?.blocks.entries() ?? [])
      if (changes?.overwrittenFirst[index] === 0 && block >= first && block < end)
        bits[block >>> 3]! &= ~(1 << (block & 7));
  }

  /** Whether any page of the relation is, or was, among them. */
  hasRelation(tablespace: number, database: number, file: number): boolean {
    return this.#find(tablespace, database, file) !== null;
  }

  has(tablespace: number, database: number, file: number, block: number): boolean {
    const found = this.#find(tablespace, database, file);
    return found !== null && (((found.bits[block >>> 3] ?? 0) >>> (block & 7)) & 1) === 1;
  }

  /** From now on the page is none of them. */
  remove(tablespace: number, database: number, file: number, block: number): void {
    const found = this.#find(tablespace, database, file);
    if (found !== null && block >>> 3 < found.bits.length) found.bits[block >>> 3]! &= ~(1 << (block & 7));
  }

  #find(tablespace: number, database: number, file: number): SettledRelation | null {
    if (this.#last !== null && isSame(this.#last.relation, tablespace, database, file)) return this.#last;
    const found = this.#relations
      .get(file)
      ?.find(({ relation }) => isSame(relation, tablespace, database, file));
    if (found === undefined) return null;
    this.#last = found;
    return found;
  }
}

interface SettledRelation {
  readonly relation: RelationFile;
  bits: Uint8Array;
}

function isSame(relation: RelationFile, tablespace: number, database: number, file: number): boolean {
  return relation.file === file && relation.database === database && relation.tablespace === tablespace;
}
