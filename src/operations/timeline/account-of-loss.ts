import { isoMoment } from '../../base/moment.ts';
import { segmentStart } from '../../engines/postgres/lsn.ts';
import type { RelationRows } from '../../engines/postgres/segment-summary.ts';
import { fileKey, nameRelations } from '../catalog/relation-names.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type LogActivity, type LogSpan, readActivity } from '../log/log-summaries.ts';
import type { LogView } from '../log/log-view.ts';
import { droppedDatabases } from './dropped-databases.ts';
import { learnNames } from './learn-names.ts';
import { inOrder, nameTransactions } from './notable-transactions.ts';
import { type TableAct, type TableRows, tableRows } from './table-changes.ts';

/** What was committed behind a target, and will not be in what is recovered. */
export interface LossAccount {
  /** Transactions committed. */
  readonly transactions: number;
  /** Rows of users' tables, those with the most changes first. */
  readonly tables: readonly TableRows[];
  /** Tables dropped, truncated or rewritten: that is undone as well. */
  readonly acts: readonly LostAct[];
  /** The second of the last commit, ISO 8601. */
  readonly lastTime: string | null;
  /** A segment that is missing behind the target: what lies behind it is not counted. */
  readonly countedTo: string | null;
  readonly timeline: number;
}

/** What was done to a table as a whole, and by which transaction. */
export type LostAct = TableAct & { readonly xid: number };

/** Transactions that are committed behind the target may have begun before: so far back their rows are counted. */
const SEGMENTS_BEFORE = 64;

/**
 * Counts what a recovery to `from` gives up of the log up to `to`, exactly, also of transactions that were running at the
 * target: what is committed by `to` less what is committed by `from`.
 *
 * @param span `begin`: where the log to read may begin, as a rule the start of the backup
 */
export async function accountOfLoss(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  view: LogView,
  span: LogSpan & { readonly begin: bigint },
  signal: AbortSignal,
): Promise<LossAccount> {
  const back = BigInt(SEGMENTS_BEFORE * view.segmentSize);
  const far = segmentStart(span.from > back ? span.from - back : 0n, view.segmentSize);
  const begin = far > span.begin ? far : span.begin;
  const read = (to: bigint): Promise<LogActivity> =>
    readActivity(context, view, { from: begin, to }, { signal, minimumRows: 1000 });
  const kept = await read(span.from);
  const all = await read(span.to);
  const names = await nameRelations(context, view, { signal });
  await learnNames(all.transactions, names);
  const dropped = all.transactions.filter(
    ({ outcome, endLsn }) => outcome === 'commit' && endLsn !== null && endLsn >= span.from,
  );
  const lastSecond = all.seconds.findLast(each => each.commits > 0)?.second;
  const changing = inOrder([
    ...(await droppedDatabases(context, { view, activity: all, names }, signal)),
    ...(await nameTransactions(dropped, names)),
  ]).filter(each => (each.transaction.endLsn ?? 0n) >= span.from);
  return {
    transactions: all.commits - kept.commits,
    tables: await tableRows(difference(all.rows, kept.rows), span.from, names),
    acts: changing.flatMap(({ acts, transaction: { xid } }) => acts.map(act => ({ ...act, xid }))),
    lastTime: lastSecond === undefined ? null : isoMoment(BigInt(lastSecond) * 1_000_000n),
    countedTo: view.end !== null && span.to < view.end ? view.expectedName(span.to) : null,
    timeline: view.timeline,
  };
}

function difference(all: readonly RelationRows[], kept: readonly RelationRows[]): RelationRows[] {
  const known = new Map(kept.map(each => [fileKey(each.relation), each]));
  return all
    .map(each => {
      const before = known.get(fileKey(each.relation));
      return {
        relation: each.relation,
        inserted: each.inserted - (before?.inserted ?? 0),
        updated: each.updated - (before?.updated ?? 0),
        deleted: each.deleted - (before?.deleted ?? 0),
      };
    })
    .filter(each => each.inserted > 0 || each.updated > 0 || each.deleted > 0);
}
