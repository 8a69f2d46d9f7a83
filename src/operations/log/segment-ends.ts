import { OUTCOME_PREPARED } from '../../engines/postgres/segment-summary-parts.ts';
import type { StoredSummary } from '../../engines/postgres/segment-summary-stored.ts';
import { RMGR_DATABASE, RMGR_XACT, RMGR_XLOG } from '../../engines/postgres/wal-record.ts';

/** What the summary of a segment says of the ends of transactions in it, so that the segment itself need not be read. */
export interface SegmentEnds {
  /** No transaction ends or is prepared in it, no restore point lies in it, no files of a database are removed in it. */
  readonly isQuiet: boolean;
  /** The first and the last second, since 1970, in which a transaction ended; null when none did. */
  readonly seconds: { readonly first: number; readonly last: number } | null;
}

/** Of a record that goes on in the next segment, the summary holds only the bytes: in doubt, the segment is not quiet. */
export function segmentEnds(summary: StoredSummary): SegmentEnds {
  const ended = summary.secondTotals().filter(({ commits, aborts }) => commits + aborts > 0);
  const seconds = ended.map(({ second }) => second);
  const isQuiet =
    summary.ended === 'segment end' &&
    seconds.length === 0 &&
    summary.kept().length === 0 &&
    summary.endedEntries().next().done === true &&
    summary.openParts().every(({ outcome }) => outcome !== OUTCOME_PREPARED) &&
    !mayEnd(summary);
  return {
    isQuiet,
    seconds: seconds.length === 0 ? null : { first: Math.min(...seconds), last: Math.max(...seconds) },
  };
}

/** The resource manager's number in the header of a record. @source access/xlogrecord.h, XLogRecord */
export const RMGR_OFFSET = 17;
const TELLING: readonly number[] = [RMGR_XACT, RMGR_XLOG, RMGR_DATABASE];

/** Whether records of this resource manager can end a transaction, be a restore point, or remove files of a database. */
export function tellsEnds(rmgr: number | undefined): boolean {
  return rmgr === undefined || TELLING.includes(rmgr);
}

function mayEnd({ tail }: StoredSummary): boolean {
  if (tail === null) return false;
  return tellsEnds(tail.bytes[RMGR_OFFSET]);
}
