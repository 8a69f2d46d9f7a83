import { formatBytes, formatSeconds } from '../../base/sizes.ts';
import type { RecoveryEstimate } from './estimate-recovery.ts';

export interface BackupDecision {
  /**
   * `none`: the objective is kept. `incremental`: take one now, which brings the estimate down. `unreachable`: no backup
   * can bring it below the objective.
   */
  readonly action: 'none' | 'incremental' | 'unreachable';
  /** For people, a sentence without its full stop. */
  readonly reason: string;
}

export interface BackupPace {
  /** How fast the instance writes log, bytes in a second; null while that is not known. */
  readonly logBytesPerSecond: number | null;
  /** How long an incremental backup takes. */
  readonly backupSeconds: number;
  /** How long until this is asked again. */
  readonly everySeconds: number;
}

/** A backup is begun so early that its end, even if it takes half as long again, comes before the objective is passed. */
const BACKUP_MARGIN = 1.5;
/** An estimate is not that exact. */
const OBJECTIVE_SHARE = 0.9;
/** A backup that would save less of the objective is not worth its load. */
const WORTH_SHARE = 0.1;

/** Is it time for an incremental backup? Asked again and again by who keeps a recovery time objective. */
export function decideBackup(
  estimate: RecoveryEstimate,
  objectiveSeconds: number,
  pace: BackupPace,
): BackupDecision {
  const limit = objectiveSeconds * OBJECTIVE_SHARE;
  const growth = (pace.logBytesPerSecond ?? 0) * estimate.secondsPerLogByte;
  const ahead = pace.everySeconds + pace.backupSeconds * BACKUP_MARGIN;
  const expected = estimate.seconds + growth * ahead;
  const now = `recovery would take about ${formatSeconds(estimate.seconds)}, the objective is ${formatSeconds(objectiveSeconds)}`;
  if (expected <= limit) return { action: 'none', reason: now };
  const saved = estimate.seconds - estimate.floorSeconds;
  if (estimate.floorSeconds > limit) {
    return {
      action: 'unreachable',
      reason: `${now}, and right after a backup it would still take ${formatSeconds(estimate.floorSeconds)}`,
    };
  }
  if (saved < objectiveSeconds * WORTH_SHARE) {
    return {
      action: 'none',
      reason: `${now}; with so little log since the last backup (${formatBytes(estimate.logBytes)}) another one would hardly help`,
    };
  }
  return { action: 'incremental', reason: now };
}
