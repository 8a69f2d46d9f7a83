import { nextSegment, segmentStart } from '../../engines/postgres/lsn.ts';
import type { InstanceContext } from '../instance-context.ts';
import { readSummaries } from '../log/log-summaries.ts';
import type { LogView } from '../log/log-view.ts';
import type { ChangingTransaction } from './notable-transactions.ts';

/**
 * How long a transaction took at most, from its first change to its commit, in seconds: the log has no time of a beginning,
 * but of what ended just before it. Null where nothing ended before it in the same segment.
 */
export async function longestSeconds(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  view: LogView,
  { transaction }: ChangingTransaction,
  signal: AbortSignal,
): Promise<number | null> {
  const { firstLsn, timeUs } = transaction;
  const from = segmentStart(firstLsn, view.segmentSize);
  if (timeUs === null || view.nameAt(from) === null) return null;
  let beforeUs: bigint | null = null;
  const range = { from, to: nextSegment(from, view.segmentSize) };
  for await (const summary of readSummaries(context, view, range, { signal })) {
    if (summary.lsn > from) break;
    for (const each of summary.transactions())
      if (each.endLsn !== null && each.endLsn < firstLsn && each.timeUs !== null) beforeUs = each.timeUs;
  }
  if (beforeUs === null) return null;
  return Math.max(0, Number(timeUs - beforeUs) / 1_000_000);
}
