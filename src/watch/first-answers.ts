import { messageOf } from '../base/errors.ts';
import type { TransactionOwner } from '../engines/postgres/transaction-owner.ts';
import type { SnapshotHold } from './snapshot-hold.ts';

/** What the server answers when a transaction is first seen. */
export interface FirstAnswers {
  readonly hold: SnapshotHold | null;
  /** Null: nobody runs it any more. Undefined: nobody could say. */
  readonly owner: TransactionOwner | null | undefined;
  readonly problems: readonly string[];
}

/** Waits for both; what cannot be had is a problem that is told. */
export async function firstAnswers(
  holding: Promise<SnapshotHold> | null,
  asking: Promise<TransactionOwner | null>,
): Promise<FirstAnswers> {
  const problems: string[] = [];
  const [hold, owner] = await Promise.all([
    holding?.catch((error: unknown) => {
      problems.push(`no snapshot could be held: ${messageOf(error)}`);
      return null;
    }) ?? null,
    asking.catch((error: unknown) => {
      problems.push(`whose it is could not be found out: ${messageOf(error)}`);
      return undefined;
    }),
  ]);
  return { hold, owner, problems };
}
