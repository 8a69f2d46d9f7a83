import { AppError } from '../../base/errors.ts';
import type { ChangeMap } from '../../engines/postgres/change-map.ts';
import type {
  RelationRows,
  SecondTotals,
  SegmentSummary,
  TransactionSummary,
} from '../../engines/postgres/segment-summary.ts';
import type { WalEvent } from '../../engines/postgres/wal-events.ts';
import type { InstanceContext } from '../instance-context.ts';
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
  /** In the order of their ends: those of at least `minimumRows`, those that drop or create relations, prepared ones. */
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
}

/**
 * The summaries of the segments of a range, in order. Those that are stored are read; the others, damaged ones and those of
 * an unknown version are computed from the log and, of whole segments, stored. Where the range begins or ends within a
 * segment, that one's summary holds the records that start in the range.
 *
 * @throws LOG_NOT_FOUND when a segment is missing; CORRUPT when the log is damaged
 */
export async function* readSummaries(
  context: SummaryContext,
  view: LogView,
  range: LogSpan,
  options: { readonly signal: AbortSignal },
): AsyncGenerator<SegmentSummary, void, undefined> {
  throw new AppError(
    'BUG',
    `not built yet: ${context.repository.id} ${view.timeline} ${range.from} ${options.signal.aborted}`,
  );
}

/** What happened in a range of the log, from its summaries, in bounded memory. @throws LOG_NOT_FOUND CORRUPT */
export async function readActivity(
  context: SummaryContext,
  view: LogView,
  range: LogSpan,
  options: {
    readonly signal: AbortSignal;
    /** Smaller transactions that drop and create nothing are only counted. Left out: 1,000. */
    readonly minimumRows?: number;
    /** Of those, only the ones it says true for are listed; it sees each once, whole, in the order of their ends. */
    readonly keep?: (transaction: TransactionSummary) => boolean;
    /** Called for each summary as it is read: for progress. */
    readonly onSummary?: (summary: SegmentSummary) => void;
  },
): Promise<LogActivity> {
  throw new AppError(
    'BUG',
    `not built yet: ${context.repository.id} ${view.timeline} ${range.from} ${options.minimumRows}`,
  );
}

/**
 * The pages that a range of the log changed. With `target`, the map is for a recovery from `from` to it over files as they
 * are at `to`, the very end of the log; without, for a backup.
 *
 * @throws LOG_NOT_FOUND when a segment is missing, CORRUPT when the log is not whole from `from` to `to`
 */
export async function readChanges(
  context: SummaryContext,
  view: LogView,
  range: LogSpan & { readonly target: bigint | null },
  options: {
    readonly signal: AbortSignal;
    /** Segments that are not archived, of a live pg_wal: they follow what the view has. */
    readonly extra?: AsyncIterable<{ readonly lsn: bigint; readonly bytes: Uint8Array }>;
  },
): Promise<ChangeMap> {
  throw new AppError(
    'BUG',
    `not built yet: ${context.repository.id} ${view.timeline} ${range.from} ${options.extra}`,
  );
}
