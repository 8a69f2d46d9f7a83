import { parseLsn } from '../../engines/postgres/lsn.ts';
import type { BackupFacts } from '../../repository/manifest.ts';
import { segmentsOf } from '../log/wait-for-log.ts';

/**
 * The files without which no server starts from a backup, whatever else is in it, and the size of each; null: any. Where the
 * backup brings its log along, these are all segments from its start to its end.
 */
export function neededFiles(backup: BackupFacts): ReadonlyMap<string, number | null> {
  const needed = new Map<string, number | null>([
    ['backup_label', null],
    ['global/pg_control', null],
  ]);
  if (!backup.logIncluded) return needed;
  const names = segmentsOf({
    timeline: backup.timeline,
    from: parseLsn(backup.startLsn),
    to: parseLsn(backup.stopLsn),
    segmentSize: backup.walSegmentSize,
  });
  for (const name of names) needed.set(`pg_wal/${name}`, backup.walSegmentSize);
  return needed;
}
