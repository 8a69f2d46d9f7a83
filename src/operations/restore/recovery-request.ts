import type { DescribedChange } from '../timeline/described-change.ts';

/** What a person asks to go back to. */
export type RecoveryRequest =
  /** The newest backup and all the log after it. */
  | { readonly kind: 'latest' }
  /** A backup as it was at its end. */
  | { readonly kind: 'backup'; readonly id: string }
  /** The last commit at or before this time, in microseconds since 1970. */
  | { readonly kind: 'time'; readonly timeUs: bigint }
  /** All records that start before this position. */
  | { readonly kind: 'lsn'; readonly lsn: bigint }
  /** Just before this transaction was committed; with `after`, just after. */
  | { readonly kind: 'xid'; readonly xid: number; readonly after: boolean }
  /** Everything committed before pg_create_restore_point() made the last one of this name. */
  | { readonly kind: 'restore point'; readonly name: string }
  /** Just before or after the transaction that fits a description. */
  | { readonly kind: 'change'; readonly change: DescribedChange }
  /** Just before the transaction of an incident. */
  | {
      readonly kind: 'incident';
      readonly id: string;
      readonly xid: number;
      readonly timeline: number;
      /** Where its commit record starts; null where the record of the incident does not say. */
      readonly lsn: bigint | null;
      readonly systemIdentifier: string;
      /** What it did, for people. */
      readonly found: string;
    };

/** Whether the first transaction that is dropped is the one that was asked to be undone. */
export function isBeforeTransaction(request: RecoveryRequest): boolean {
  if (request.kind === 'xid') return !request.after;
  return request.kind === 'incident' || (request.kind === 'change' && !request.change.after);
}

/** A transaction beside the target: the last kept one, or the first dropped one. */
export interface EdgeTransaction {
  readonly xid: number;
  readonly timeUs: bigint;
  readonly lsn: bigint;
}

/** A request turned into a position of the log: null is the end of the log. */
export interface ResolvedTarget {
  /**
   * The recovery stops before the first record that starts here or later. Unless a position was asked for, it lies right
   * behind what is kept: nothing of a transaction that is dropped is replayed first where it can be helped.
   */
  readonly lsn: bigint | null;
  readonly lastKept: EdgeTransaction | null;
  readonly firstDropped: EdgeTransaction | null;
  /** What a description or a name turned out to be, for people; null where nothing had to be found. */
  readonly found: string | null;
}
