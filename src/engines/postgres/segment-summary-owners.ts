import type { RelationLock } from './segment-summary-content.ts';
import type { RelationTable } from './segment-summary-parts.ts';

/**
 * Whose the relations are that were created without an xid: the first command of a transaction can create one before the
 * transaction has one. The lock on the relation that follows at once says it.
 */
export class RelationOwners {
  /** Numbers of relations whose owner is not known yet. */
  readonly orphans: number[] = [];
  /** Locks on relations that were created in front of what was read, if at all. */
  readonly locks: RelationLock[] = [];
  readonly #relations: RelationTable;
  readonly #keepsLocks: boolean;

  constructor(relations: RelationTable, options: { readonly keepsLocks: boolean }) {
    this.#relations = relations;
    this.#keepsLocks = options.keepsLocks;
  }

  addOrphan(number: number): void {
    this.orphans.push(number);
  }

  /** The relations without an owner that these locks give to whom. */
  adopt(locks: readonly RelationLock[]): Map<number, number[]> {
    const found = new Map<number, number[]>();
    for (const lock of locks) {
      const index = this.orphans.findIndex(number => {
        const relation = this.#relations.relations[number]!;
        return relation.file === lock.file && relation.database === lock.database;
      });
      if (index >= 0) found.set(lock.xid, [...(found.get(lock.xid) ?? []), ...this.orphans.splice(index, 1)]);
      else if (this.#keepsLocks) this.locks.push(lock);
    }
    return found;
  }
}
