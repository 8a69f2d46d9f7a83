import { classifyLogFileName, isSegmentSize } from '../../engines/postgres/lsn.ts';
import { encodeSummary } from '../../engines/postgres/segment-summary-stored.ts';
import { summarizeInSteps } from '../../engines/postgres/summarize-segment.ts';
import { type FileToPut, type LogOwner, putLogFile } from '../../repository/log-archive.ts';
import { putLogSummary } from '../../repository/log-summary.ts';
import type { Repository } from '../../repository/repository.ts';
import type { CallOptions } from '../../storage/storage.ts';

/** A file of the log to archive: a segment, a history file, a label of a backup. */
export type FileToStore = FileToPut;

/** A segment whose summary is larger, as one that is all one huge record, is summarised when it is read. */
export const MAX_STORED_SUMMARY_BYTES = 8 * 1024 * 1024;

/**
 * Archives a file of the log and, of a whole segment, its summary beside it. The file alone decides: a summary that
 * cannot be made or stored is made when it is read.
 *
 * @throws LOG_CONFLICT when there is one of this name with other bytes: nothing is overwritten
 */
export async function storeSegment(
  repository: Repository,
  file: FileToStore,
  options: CallOptions = {},
): Promise<'stored' | 'same'> {
  const storing = putLogFile(repository, file, options);
  // Its failure is for the caller, below; not to be reported as unhandled meanwhile.
  storing.catch(() => undefined);
  // Made in steps while the storage writes the segment.
  const summarizing = trySummarize(file);
  // A summary is only ever of the segment that is archived under its name: not of one that was refused.
  const outcome = await storing;
  const summary = await summarizing;
  if (summary !== null) {
    // Whatever is wrong with it, the segment is archived, and that is what PostgreSQL is told.
    await putLogSummary(repository, { ...file, bytes: summary }, options).catch(() => undefined);
  }
  return outcome;
}

/** Makes the summary of an archived segment and stores it; false when none can be made. */
export async function storeSummary(
  repository: Repository,
  segment: LogOwner & { readonly name: string; readonly bytes: Uint8Array },
  options: CallOptions = {},
): Promise<boolean> {
  const summary = await trySummarize(segment);
  if (summary === null) return false;
  return (await putLogSummary(repository, { ...segment, bytes: summary }, options)) === 'stored';
}

async function trySummarize(
  file: Pick<FileToStore, 'bytes' | 'name' | 'systemIdentifier'>,
): Promise<Uint8Array | null> {
  const { bytes, name, systemIdentifier } = file;
  if (!isSegmentSize(bytes.length)) return null;
  const place = classifyLogFileName(name, bytes.length);
  if (place?.kind !== 'segment' || place.lsn === undefined) return null;
  try {
    const options = { lsn: place.lsn, segmentSize: bytes.length, systemIdentifier };
    const summary = encodeSummary(await summarizeInSteps(bytes, options));
    return summary.length <= MAX_STORED_SUMMARY_BYTES ? summary : null;
  } catch {
    // A segment with something in it that is not understood is archived all the same.
    return null;
  }
}
