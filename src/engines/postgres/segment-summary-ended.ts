import { type Folded, type FoldRule, isLaterXid, type Second } from './segment-summary-content.ts';
import {
  OUTCOME_COMMITTED,
  OUTCOME_CRASHED,
  RowCounts,
  type TransactionPart,
} from './segment-summary-parts.ts';

export interface EndedOptions {
  /** Ended transactions below it are only counted, where nothing is remarkable about them. */
  readonly minimumRows?: number;
  /** Which of those that end are only counted. */
  readonly fold?: FoldRule | null;
  /** Told of the transactions that end, instead of keeping them. */
  readonly onEnded?: (part: TransactionPart) => void;
}

/** The transactions that have ended, in the order in which they are added, and the totals of the seconds in which they did. */
export class EndedTransactions {
  readonly parts: TransactionPart[] = [];
  readonly seconds = new Map<number, Second>();
  readonly #options: EndedOptions;
  /** Of those that ended first: how many, and the latest of their xids. */
  #firstCount = 0;
  #firstXid = 0;
  #foldedCount = 0;
  #lastSecond = 0;
  #lastTotals: Second | null = null;

  constructor(options: EndedOptions) {
    this.#options = options;
  }

  get folded(): Folded {
    return { count: this.#foldedCount, behindXid: this.#foldedCount === 0 ? 0 : this.#firstXid };
  }

  /** Counts one for the second in which it ended. */
  count(part: TransactionPart): void {
    const totals = this.second(part.timeUs);
    if (part.outcome === OUTCOME_COMMITTED) {
      totals.commits += 1;
      totals.rows.addAll(part.rows);
    } else {
      totals.aborts += 1;
    }
  }

  /** The totals of the second that holds a time. */
  second(timeUs: number): Second {
    const second = Math.floor(timeUs / 1e6);
    if (this.#lastTotals !== null && second === this.#lastSecond) return this.#lastTotals;
    let totals = this.seconds.get(second);
    if (totals === undefined) {
      totals = { commits: 0, aborts: 0, rows: new RowCounts() };
      this.seconds.set(second, totals);
    }
    this.#lastSecond = second;
    this.#lastTotals = totals;
    return totals;
  }

  /** Keeps one, or passes it on: true; or does without it. */
  add(part: TransactionPart): boolean {
    const { minimumRows = 0, onEnded } = this.#options;
    if (minimumRows > 0 && !part.isRemarkable && part.rows.total < minimumRows) return false;
    if (this.#isFolded(part)) {
      this.#foldedCount += 1;
      return false;
    }
    if (onEnded === undefined) this.parts.push(part);
    else onEnded(part);
    return true;
  }

  /** Adds what another summary has counted only. */
  addFolded({ count }: Folded): void {
    this.#foldedCount += count;
  }

  #isFolded(part: TransactionPart): boolean {
    const { fold } = this.#options;
    // What a crash ended is little, and when it ended is not in the order of the others.
    if (fold === undefined || fold === null || part.outcome === OUTCOME_CRASHED) return false;
    if (this.#firstCount < fold.behind) {
      if (this.#firstCount === 0 || isLaterXid(part.xid, this.#firstXid)) this.#firstXid = part.xid;
      this.#firstCount += 1;
      return false;
    }
    if (!isLaterXid(part.xid, this.#firstXid) || part.isRemarkable) return false;
    return part.rows.total < fold.belowRows && part.subxids.every(xid => isLaterXid(xid, this.#firstXid));
  }
}
