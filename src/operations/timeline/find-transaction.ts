import { AppError } from '../../base/errors.ts';
import { nextSegment, segmentStart } from '../../engines/postgres/lsn.ts';
import type { TransactionSummary } from '../../engines/postgres/segment-summary.ts';
import { nameRelations } from '../catalog/relation-names.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { readActivity } from '../log/log-summaries.ts';
import { type LogSource, logTransactions } from '../log/log-transactions.ts';
import type { LogView } from '../log/log-view.ts';
import type { ChangeKind, DescribedChange } from './described-change.ts';
import { droppedDatabases } from './dropped-databases.ts';
import { findDescribedChange } from './find-described-change.ts';
import { learnNames } from './learn-names.ts';
import { inOrder, nameTransactions, selectNotable } from './notable-transactions.ts';
import { type LogRun, openInstanceLog } from './open-instance-log.ts';
import { readTimeline } from './read-timeline.ts';
import { listTransaction, type TimelineTransaction } from './timeline-report.ts';

/** A transaction of the log, and the timeline that its log was read along. */
export interface FoundTransaction {
  readonly timeline: number;
  readonly transaction: TimelineTransaction;
}

const NOTABLE_ROWS = 1000;
const worstFirst: readonly ChangeKind[] = ['drop', 'truncate', 'delete', 'update'];

/**
 * Of what stands out in the log since a time: what destroyed most surely, and of these the last. Null: nothing did.
 *
 * @param since.but commits that are passed over, by their positions as PostgreSQL writes them
 */
export async function findWorstTransaction(
  context: InstanceContext,
  since: { readonly fromUs: bigint; readonly but: ReadonlySet<string> },
  options: RunOptions,
): Promise<FoundTransaction | null> {
  const request = {
    fromUs: since.fromUs,
    toUs: null,
    table: null,
    minimumRows: NOTABLE_ROWS,
    limit: 20 + since.but.size,
    mostBuckets: 1,
    timeline: null,
  };
  const { transactions, timeline } = await readTimeline(context, request, options);
  const [worst] = transactions
    .filter(({ kind, commitLsn }) => worstFirst.includes(kind) && !since.but.has(commitLsn ?? ''))
    .sort(
      (a, b) =>
        worstFirst.indexOf(a.kind) - worstFirst.indexOf(b.kind) || (b.time ?? '').localeCompare(a.time ?? ''),
    );
  return worst === undefined ? null : { timeline, transaction: worst };
}

/** Which one is meant: by its number, or as people speak of it. */
export type AskedTransaction =
  | { readonly kind: 'xid'; readonly xid: number }
  | { readonly kind: 'change'; readonly change: DescribedChange };

/**
 * Finds one committed transaction of the log and reads what it did, whole. `timeline`: the one whose log is read; left out,
 * that of the instance.
 *
 * @throws LOG_NOT_FOUND there is none; TARGET_AMBIGUOUS several fit the description
 */
export async function findTransaction(
  context: InstanceContext,
  asked: AskedTransaction,
  { signal, timeline = null }: Pick<RunOptions, 'signal'> & { readonly timeline?: number | null },
): Promise<FoundTransaction> {
  const { view, runs } = await openInstanceLog(context, timeline, signal);
  const commit =
    asked.kind === 'xid'
      ? await findCommit({ ...context, view }, { runs, xid: asked.xid }, signal)
      : await findDescribed(context, { view, runs, change: asked.change }, signal);
  const names = await nameRelations(context, view, { signal });
  const read = { run: commit.run, from: commit.lsn, to: commit.endLsn };
  const activity = await readWhole(context, view, read, signal);
  await learnNames(activity.transactions, names);
  const changing = inOrder([
    ...(await droppedDatabases(context, { view, activity, names }, signal)),
    ...(await nameTransactions(activity.transactions, names)),
  ]).filter(each => each.transaction.endLsn === commit.lsn);
  const { notable, usual } = selectNotable(changing, { minimumRows: 1 });
  const [found] = [...notable, ...usual];
  if (found === undefined) {
    throw new AppError('LOG_NOT_FOUND', 'this transaction changed no row of a table of users', {
      hint: '`aishell backup timeline` shows the transactions that stand out.',
    });
  }
  return { timeline: view.timeline, transaction: await listTransaction(context, view, found, signal) };
}

interface Commit {
  readonly lsn: bigint;
  readonly endLsn: bigint;
  readonly run: LogRun;
}

/** Looks from the end backwards: what is asked about usually happened minutes ago. */
async function findCommit(
  source: LogSource,
  search: { readonly runs: readonly LogRun[]; readonly xid: number },
  signal: AbortSignal,
): Promise<Commit> {
  const { view } = source;
  const size = BigInt(view.segmentSize);
  for (const run of search.runs.toReversed()) {
    const log = logTransactions(source, run, signal);
    for (let at = segmentStart(run.to - 1n, view.segmentSize); at >= log.first; at -= size) {
      const found = (await log.inSegment(at)).findLast(
        each =>
          (each.kind === 'commit' || each.kind === 'commit prepared') &&
          (each.xid === search.xid || each.subxids.includes(search.xid)),
      );
      if (found !== undefined) return { lsn: found.lsn, endLsn: found.endLsn, run };
    }
  }
  throw new AppError('LOG_NOT_FOUND', `no commit of transaction ${search.xid} is in the archived log`, {
    hint: 'It may still be running, have been rolled back, or lie before the first archived segment.',
  });
}

async function findDescribed(
  context: InstanceContext,
  search: { readonly view: LogView; readonly runs: readonly LogRun[]; readonly change: DescribedChange },
  signal: AbortSignal,
): Promise<Commit> {
  const run = search.runs.at(-1)!;
  const found = await findDescribedChange(context, { ...search, ...run }, signal);
  return { lsn: found.lsn, endLsn: found.endLsn, run };
}

const SEGMENTS_BEFORE = 64n;
/** Smaller transactions are in no summary by themselves: then the log itself is read. */
const SUMMARIZED_ROWS = 100;

/** Reads back as far as the transaction began, so that all of its rows are counted. */
async function readWhole(
  context: InstanceContext,
  view: LogView,
  commit: { readonly run: LogRun; readonly from: bigint; readonly to: bigint },
  signal: AbortSignal,
): Promise<Awaited<ReturnType<typeof readActivity>>> {
  const { run } = commit;
  const isAsked = ({ endLsn }: TransactionSummary): boolean => endLsn === commit.from;
  let minimumRows = SUMMARIZED_ROWS;
  for (let segments = SEGMENTS_BEFORE; ; ) {
    const far = segmentStart(commit.from, view.segmentSize) - segments * BigInt(view.segmentSize);
    const from = far > run.from ? far : run.from;
    const options = { signal, minimumRows, keep: isAsked };
    const activity = await readActivity(context, view, { from, to: commit.to }, options);
    const found = activity.transactions[0];
    if (found === undefined && minimumRows > 1) minimumRows = 1;
    else if (found === undefined || from === run.from) return activity;
    else if (found.firstLsn >= nextSegment(from, view.segmentSize)) return activity;
    else segments *= 4n;
  }
}
