import { AppError } from '../../base/errors.ts';
import { type ChangeMap, type ForkChanges, forkKey } from '../../engines/postgres/change-map.ts';
import { formatLsn, segmentStart } from '../../engines/postgres/lsn.ts';
import type {
  RelationRows,
  SecondTotals,
  SegmentSummary,
  TransactionSummary,
} from '../../engines/postgres/segment-summary.ts';
import { FOLD_RULE } from '../../engines/postgres/segment-summary-content.ts';
import { SummaryJoiner } from '../../engines/postgres/segment-summary-joiner.ts';
import {
  logEvents,
  relationRows,
  storageEvents,
  transactionSummary,
} from '../../engines/postgres/segment-summary-lists.ts';
import { RowCounts, type TransactionPart } from '../../engines/postgres/segment-summary-parts.ts';
import type { WalEvent } from '../../engines/postgres/wal-events.ts';
import { LONG_HEADER_BYTES } from '../../engines/postgres/wal-pages.ts';
import type { StorageEvent } from '../../engines/postgres/wal-storage.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type SummariesQuestion, summariesOf, summaryInDetail } from './log-summaries-read.ts';
import type { LogView } from './log-view.ts';

export type SummaryContext = Pick<InstanceContext, 'repository'>;

/** A range of the log: the records that start in `[from, to)`. */
export interface LogSpan {
  readonly from: bigint;
  readonly to: bigint;
}

/** What happened in a range of the log. */
export interface LogActivity {
  readonly from: bigint;
  /** Where the log that was read ends, at most what was asked for. */
  readonly to: bigint;
  /**
   * In the order of their ends: those of at least `minimumRows`, those that drop or create relations, databases or
   * tablespaces, and those that were prepared.
   */
  readonly transactions: readonly TransactionSummary[];
  /** Ascending. */
  readonly seconds: readonly SecondTotals[];
  readonly commits: number;
  readonly aborts: number;
  /** Of all transactions committed. */
  readonly rows: readonly RelationRows[];
  /** Not ended, or prepared, at the end of the range. */
  readonly open: readonly TransactionSummary[];
  readonly restorePoints: readonly Extract<WalEvent, { kind: 'restore point' }>[];
  /** Restore points included. */
  readonly events: readonly WalEvent[];
  readonly databasesCreated: readonly Extract<StorageEvent, { kind: 'database created' }>[];
  readonly databasesDropped: readonly Extract<StorageEvent, { kind: 'database dropped' }>[];
}

/**
 * The summaries of the segments of a range, in order. Those that are stored are read; the others, damaged ones and those of
 * an unknown version are computed from the log and, of whole segments, stored. Where the range begins or ends within a
 * segment, that one's summary holds the records that start in the range; a last one may hold no more than the rest of the
 * record that crosses the end of the range.
 *
 * @throws LOG_NOT_FOUND when a segment is missing
 */
export async function* readSummaries(
  context: SummaryContext,
  view: LogView,
  range: LogSpan,
  options: { readonly signal: AbortSignal },
): AsyncGenerator<SegmentSummary, void, undefined> {
  yield* summariesOf({ repository: context.repository, view, ...range, signal: options.signal });
}

/**
 * What happened in a range of the log, from its summaries, in bounded memory.
 * @throws LOG_NOT_FOUND when a segment is missing, CORRUPT when the log is damaged within the range
 */
export async function readActivity(
  context: SummaryContext,
  view: LogView,
  range: LogSpan,
  options: {
    readonly signal: AbortSignal;
    /** Smaller transactions that drop and create nothing are only counted. Left out: 1,000; below 100 the log itself is read. */
    readonly minimumRows?: number;
    /** Of those, only the ones it says true for are listed; it sees each once, whole, in the order of their ends. */
    readonly keep?: (transaction: TransactionSummary) => boolean;
    /** Called as each segment is done. */
    readonly onSummary?: () => void;
  },
): Promise<LogActivity> {
  const transactions: TransactionSummary[] = [];
  const minimumRows = options.minimumRows ?? DEFAULT_MINIMUM_ROWS;
  const origin = segmentStart(range.from, view.segmentSize);
  const joiner: SummaryJoiner = new SummaryJoiner({
    origin,
    isFirst: true,
    pages: false,
    minimumRows,
    onEnded(part) {
      const transaction = transactionSummary(part, origin, joiner.builder.relations.relations);
      if (options.keep?.(transaction) ?? true) transactions.push(transaction);
    },
  });
  const question: SummariesQuestion = {
    repository: context.repository,
    view,
    ...range,
    detail: minimumRows < FOLD_RULE.belowRows,
    signal: options.signal,
  };
  for await (const summary of summariesOf(question)) {
    const isEnough = !joiner.needsDetail(summary);
    joiner.add(isEnough ? summary : await summaryInDetail(question, summary.lsn));
    options.onSummary?.();
  }
  const { endLsn } = joiner;
  return {
    from: range.from,
    to: endLsn === null ? range.from : endLsn < range.to ? endLsn : range.to,
    transactions,
    ...totalsOf(joiner, origin),
  };
}

/** The beginning of a range whose end is not known yet. It goes on once. */
export interface BegunChanges {
  readonly joiner: SummaryJoiner;
  readonly target: bigint | null;
  /** The first segment that was not read. */
  readonly upTo: bigint;
}

/**
 * Reads what the log changed from `from` on, up to the start of segment `upTo`, for a {@link readChanges} that goes on there.
 *
 * @throws as {@link readChanges}
 */
export async function beginChanges(
  context: SummaryContext,
  view: LogView,
  range: { readonly from: bigint; readonly upTo: bigint; readonly target: bigint | null },
  signal: AbortSignal,
): Promise<BegunChanges> {
  const { from, upTo, target } = range;
  const joiner = changesJoiner(view, { from, target });
  // The rest of a record that goes on behind it is read along with what it is the beginning of.
  const nameAt = (lsn: bigint): string | null => (lsn < upTo ? view.nameAt(lsn) : null);
  const question = { repository: context.repository, view: { ...view, nameAt }, from, to: upTo, signal };
  for await (const summary of summariesOf({ ...question, target })) joiner.add(summary);
  return { joiner, target, upTo };
}

/** What was begun, as a map: it lacks what a record changed that crosses its end. @throws CORRUPT as {@link readChanges} */
export function changesSoFar(
  { joiner, target, upTo }: BegunChanges,
  from: bigint,
  segmentSize: number,
): ChangeMap {
  assertWhole(joiner, { from, to: upTo });
  return changeMapOf(joiner, { from, to: upTo, target }, segmentStart(from, segmentSize));
}

function changesJoiner(
  view: LogView,
  { from, target }: { readonly from: bigint; readonly target: bigint | null },
): SummaryJoiner {
  const origin = segmentStart(from, view.segmentSize);
  return new SummaryJoiner({ origin, isFirst: true, transactions: false, target });
}

/**
 * The pages that a range of the log changed. With `target`, the map is for a recovery from `from` to it over files as they
 * are at `to`, the very end of the log; without, for a backup.
 *
 * @throws LOG_NOT_FOUND when a segment is missing
 * @throws CORRUPT when the log is not whole from `from` to `to`: every record's CRC and link is verified
 */
export async function readChanges(
  context: SummaryContext,
  view: LogView,
  range: LogSpan & { readonly target: bigint | null },
  options: {
    readonly signal: AbortSignal;
    /**
     * Segments that are not archived, of a live pg_wal, in ascending order: they follow what the view has, or stand in for
     * those of the same position.
     */
    readonly extra?: AsyncIterable<{ readonly lsn: bigint; readonly bytes: Uint8Array }>;
    /** Of the same `from` and target: what was read already. */
    readonly begun?: BegunChanges | null;
  },
): Promise<ChangeMap> {
  const { from, to, target } = range;
  const origin = segmentStart(from, view.segmentSize);
  const joiner = options.begun?.joiner ?? changesJoiner(view, { from, target });
  const startAt = options.begun?.upTo;
  const question = { repository: context.repository, view, from, to, target, signal: options.signal };
  for await (const summary of summariesOf({ ...question, startAt, extra: options.extra }))
    joiner.add(summary);
  assertWhole(joiner, { from, to });
  return changeMapOf(joiner, { from, to, target }, origin);
}

/** @throws CORRUPT where the log that was joined does not reach `to` */
function assertWhole(joiner: SummaryJoiner, { from, to }: LogSpan): void {
  const end = joiner.endLsn ?? from;
  // Where a server writes next can be behind the header of a page that it has not begun.
  if (joiner.ended !== 'segment end' && end + BigInt(LONG_HEADER_BYTES) < to) {
    throw new AppError(
      'CORRUPT',
      `unable to read the log from ${formatLsn(from)} to ${formatLsn(to)}: it ends at ${formatLsn(end)} (${joiner.ended})`,
      { hint: 'The segment that holds this position is cut off or damaged.' },
    );
  }
}

/** The smallest transaction that is listed by itself. */
const DEFAULT_MINIMUM_ROWS = 1000;

function totalsOf(joiner: SummaryJoiner, origin: bigint): Omit<LogActivity, 'from' | 'to' | 'transactions'> {
  const { builder } = joiner;
  const { relations } = builder.relations;
  const all = new RowCounts();
  let commits = 0;
  let aborts = 0;
  const seconds: SecondTotals[] = [];
  for (const [second, totals] of [...builder.seconds].sort(([a], [b]) => a - b)) {
    all.addAll(totals.rows);
    commits += totals.commits;
    aborts += totals.aborts;
    seconds.push({
      second,
      commits: totals.commits,
      aborts: totals.aborts,
      rows: relationRows(totals.rows, relations),
    });
  }
  const place = { lsn: origin, majorVersion: joiner.majorVersion };
  const events = logEvents(builder.kept, place);
  const storage = storageEvents(builder.kept, place);
  return {
    seconds,
    commits,
    aborts,
    rows: relationRows(all, relations),
    open: openTransactions(joiner).map(part => transactionSummary(part, origin, relations)),
    restorePoints: events.filter(event => event.kind === 'restore point'),
    events,
    databasesCreated: storage.filter(event => event.kind === 'database created'),
    databasesDropped: storage.filter(event => event.kind === 'database dropped'),
  };
}

/** What is open at the end, with the subtransactions that are known to belong to it. */
function openTransactions(joiner: SummaryJoiner): TransactionPart[] {
  const { open } = joiner.builder;
  const tops = new Map([...open].filter(([, part]) => !open.has(part.topXid)));
  for (const part of open.values()) {
    const top = tops.get(part.topXid);
    if (top !== undefined && top !== part) top.absorb(part);
  }
  return [...tops.values()].sort((a, b) => a.firstAt - b.firstAt);
}

function changeMapOf(
  joiner: SummaryJoiner,
  range: LogSpan & { readonly target: bigint | null },
  origin: bigint,
): ChangeMap {
  const { builder, majorVersion } = joiner;
  const place = { lsn: origin, majorVersion };
  const storage = storageEvents(builder.kept, place);
  const copied = new Set<number>();
  for (const event of storage) {
    const isBefore = range.target !== null && event.lsn < range.target;
    if (isBefore && event.kind === 'database created' && event.source !== null)
      copied.add(event.source.database);
  }
  const forks = new Map<string, ForkChanges>();
  builder.pages.forEachFork((number, blocks, overwrittenFirst) => {
    const relation = builder.relations.relations[number >>> 2]!;
    const fork = number & 3;
    // Redo reads the files of such a database as they are on the disk.
    if (copied.has(relation.database)) overwrittenFirst.fill(0);
    forks.set(forkKey(relation, fork), { relation, fork, blocks, overwrittenFirst });
  });
  return { ...range, forks, storage, events: logEvents(builder.kept, place) };
}
