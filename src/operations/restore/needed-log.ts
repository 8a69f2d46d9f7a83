import { AppError } from '../../base/errors.ts';
import { formatLsn, nextSegment, parseLsn, segmentStart } from '../../engines/postgres/lsn.ts';
import type { BackupFacts } from '../../repository/manifest.ts';
import type { LogView } from '../log/log-view.ts';

/** A file of the log as it is archived, and the name the server looks for. */
export interface NeededLogFile {
  readonly name: string;
  readonly as: string;
  readonly sizeBytes: number;
}

const HISTORY_BYTES = 1024;

/** What a recovery from a backup to a position needs of the archived log. @throws TARGET_UNREACHABLE a segment is missing */
export function logFilesFor(view: LogView, backup: BackupFacts, to: bigint): NeededLogFile[] {
  const logFiles: NeededLogFile[] = [];
  for (
    let lsn = segmentStart(parseLsn(backup.startLsn), view.segmentSize);
    lsn < to;
    lsn = nextSegment(lsn, view.segmentSize)
  ) {
    const name = view.nameAt(lsn);
    if (name === null) {
      if (backup.logIncluded && lsn < parseLsn(backup.stopLsn)) continue;
      throw new AppError(
        'TARGET_UNREACHABLE',
        `unable to recover: log segment '${view.expectedName(lsn)}' is missing from the archive`,
        {
          hint: `Everything up to ${formatLsn(lsn)} can be recovered.`,
          details: { missing: view.expectedName(lsn) },
        },
      );
    }
    // What a backup brings along itself is among its files.
    if (backup.logIncluded && lsn < parseLsn(backup.stopLsn)) continue;
    logFiles.push({ name, as: name.replace(/\.partial$/, ''), sizeBytes: view.segmentSize });
  }
  for (const name of view.historyFiles) logFiles.push({ name, as: name, sizeBytes: HISTORY_BYTES });
  return logFiles;
}
