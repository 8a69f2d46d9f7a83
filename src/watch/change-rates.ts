import { join } from 'node:path';
import { readJsonFile, writeJsonFile } from '../base/json-file.ts';
import type { RelationFile, WalTransaction } from '../engines/postgres/wal-transactions.ts';
import { Baseline, type BaselineState, type RateFinding } from './baseline.ts';
import { isTable } from './findings.ts';
import type { LiveTables } from './live-tables.ts';
import type { OpenTransaction } from './open-transaction.ts';

/** A transaction that changes so many rows at once may be one of its kind. */
const LARGE_ROWS = 500;
const FILE = 'baseline.json';
const SAVE_EVERY_MS = 600_000;

/** Adds up what is committed, and now and then hands it to what is learned of each table. */
export class ChangeRates {
  readonly baseline: Baseline;
  readonly #path: string;
  readonly #tables: LiveTables;
  readonly #pending = new Map<string, { readonly relation: RelationFile; rows: number }>();
  #atMs = Date.now();
  #lastXid = 0;
  #savedMs = performance.now();

  constructor(directory: string, tables: LiveTables) {
    this.#path = join(directory, FILE);
    this.#tables = tables;
    this.baseline = new Baseline(readBaseline(this.#path), Date.now());
  }

  /** The last transaction that was added. */
  get lastXid(): number {
    return this.#lastXid;
  }

  add(transaction: OpenTransaction, end: WalTransaction): void {
    this.#atMs = Number(end.timeUs / 1000n);
    this.#lastXid = end.xid;
    for (const [key, count] of transaction.totals) {
      const rows = count.deleted + count.updated;
      if (rows === 0) continue;
      const pending = this.#pending.get(key);
      if (pending === undefined) this.#pending.set(key, { relation: count.relation, rows });
      else pending.rows += rows;
      if (count.deleted >= LARGE_ROWS) this.#addLarge(count.relation, { act: 'delete', rows: count.deleted });
      if (count.updated >= LARGE_ROWS) this.#addLarge(count.relation, { act: 'update', rows: count.updated });
    }
  }

  /** What was committed since, and is far more than usual. */
  take(least: number): RateFinding[] {
    const found: RateFinding[] = [];
    for (const { relation, rows } of this.#pending.values()) {
      const known = this.#tables.relation(relation);
      if (known === null || !isTable(known)) continue;
      const finding = this.baseline.add(this.#tables.whole(known), rows, { ms: this.#atMs, least });
      if (finding !== null) found.push(finding);
    }
    this.#pending.clear();
    return found;
  }

  /** Now and then. @throws FILE_FAILED */
  async save(isLast = false): Promise<void> {
    if (!isLast && performance.now() - this.#savedMs < SAVE_EVERY_MS) return;
    this.#savedMs = performance.now();
    await writeJsonFile(this.#path, this.baseline.state);
  }

  #addLarge(
    relation: RelationFile,
    change: { readonly act: 'delete' | 'update'; readonly rows: number },
  ): void {
    const known = this.#tables.relation(relation);
    if (known !== null && isTable(known))
      this.baseline.addLarge(this.#tables.whole(known), change, this.#atMs);
  }
}

/** What was learned may be learned anew: a file that cannot be read is none. */
function readBaseline(path: string): BaselineState | null {
  try {
    const state = readJsonFile<BaselineState>(path);
    return state?.version === 1 ? state : null;
  } catch {
    return null;
  }
}
