import type { RecoveryPlan } from '../restore/plan-restore.ts';
import type { RewindAmount } from './decide-work.ts';

/**
 * What the machine is taken to do, in MB/s, where nothing was measured: a usual server with a disk of its own. Only the
 * ratio of the two estimates decides; both are off by the same factor on another machine.
 */
const OPENED_PER_WORKER = 400;
const WRITTEN = 400;
const CHECKED = 1500;
const FLUSHED = 600;
/** By amcheck, foreign keys and counting: before a full restore is opened, after a rewind is. */
const CHECKED_BY_SERVER = 300;
/** Pages here and there: reading them, copying them aside. */
const KEPT = 150;
const PER_FILE_SECONDS = 0.0001;
const MB = 1e6;

/** Seconds for keeping, rewriting, checking and flushing what a rewind changes. */
export function estimateRewind(amount: RewindAmount, workers: number): number {
  const files = amount.filesPatched + amount.filesReplaced + amount.filesRemoved;
  return (
    amount.openedBytes / (OPENED_PER_WORKER * workers * MB) +
    amount.keptBytes / (KEPT * MB) +
    (amount.writtenBytes + amount.copiedBytes) *
      (1 / (WRITTEN * MB) + 1 / (CHECKED * MB) + 1 / (FLUSHED * MB)) +
    (files + amount.filesUntouched) * PER_FILE_SECONDS
  );
}

/** The same for all of the backup. */
export function estimateFull(plan: Pick<RecoveryPlan, 'backup'>, workers: number): number {
  const { sizeBytes, fileCount } = plan.backup;
  return (
    Math.max(sizeBytes / (OPENED_PER_WORKER * workers * MB), sizeBytes / (WRITTEN * MB)) +
    sizeBytes * (1 / (CHECKED * MB) + 1 / (FLUSHED * MB) + 1 / (CHECKED_BY_SERVER * MB)) +
    fileCount * PER_FILE_SECONDS
  );
}
