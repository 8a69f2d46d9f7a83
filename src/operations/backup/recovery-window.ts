import { AppError } from '../../base/errors.ts';
import { formatLsn, parseLsn } from '../../engines/postgres/lsn.ts';
import type { BackupFacts } from '../../repository/manifest.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type LogView, openLogView } from '../log/log-view.ts';

/** The moments of the newest timeline that a point-in-time recovery can go to: all between these two, without a gap. */
export interface RecoveryWindow {
  /** The backup at whose end it begins: the oldest behind which no log is missing. */
  readonly backup: string;
  readonly from: string;
  /** The end of the newest log that is archived. What time that was, only its records say. */
  readonly toLsn: string;
  readonly timeline: number;
}

/**
 * The recovery window of an instance, from its backups (those that open) and the names of the log's files alone.
 *
 * @returns null where there is none: no backup, no log, a gap behind every backup, or log that cannot be read
 */
export async function recoveryWindow(
  { repository, instance }: Pick<InstanceContext, 'instance' | 'repository'>,
  backups: readonly BackupFacts[],
  signal: AbortSignal,
): Promise<RecoveryWindow | null> {
  const newest = backups.toSorted((a, b) => (a.id < b.id ? 1 : -1))[0];
  if (newest === undefined) return null;
  const { systemIdentifier, walSegmentSize } = newest;
  const own = backups.filter(each => each.systemIdentifier === systemIdentifier);
  const source = {
    owner: { instance, systemIdentifier },
    segmentSize: walSegmentSize,
    timeline: null,
    backupTimelines: own.map(each => each.timeline),
  };
  const view = await openLogView(repository, source, signal).catch((error: unknown) => {
    // Without the history of a timeline nothing on it can be recovered to, and the backups are still to be listed.
    if (error instanceof AppError && (error.code === 'LOG_NOT_FOUND' || error.code === 'CORRUPT'))
      return null;
    throw error;
  });
  if (view === null || view.end === null) return null;
  const { end, timeline } = view;
  const first = own.toSorted((a, b) => (a.id < b.id ? -1 : 1)).find(each => reachesEnd(view, each, end));
  if (first === undefined) return null;
  return { backup: first.id, from: first.stopTime, toLsn: formatLsn(end), timeline };
}

/** Whether the log goes on from the end of a backup to its own, along the timeline that is followed. */
function reachesEnd(view: LogView, backup: BackupFacts, end: bigint): boolean {
  const stop = parseLsn(backup.stopLsn);
  const at = view.chain.findIndex(({ timeline }) => timeline === backup.timeline);
  const next = view.chain[at + 1];
  // Of a timeline that was left before the backup ended, the followed one has nothing.
  if (at < 0 || (next !== undefined && next.begin < stop)) return false;
  return stop < end && view.firstMissing(stop) >= end;
}
