import { formatMoment } from '../../base/moment.ts';
import { formatAge, formatBytes, formatCount } from '../../base/sizes.ts';
import { formatLsn } from '../../engines/postgres/lsn.ts';
import type { RecoveryPlan } from '../../operations/restore/plan-restore.ts';
import type { EdgeTransaction, RecoveryRequest } from '../../operations/restore/recovery-request.ts';
import { type Page, printable } from './page.ts';
import { formatTime } from './time.ts';

/** The plan of a recovery as the tutorial shows it: target, analysis, strategy. */
export function drawRecoveryPlan(page: Page, plan: RecoveryPlan, now: Date): void {
  const { backup, resolved } = plan;
  page.line(`Target: ${describeTarget(plan.request)}`);
  page.line();
  page.line(page.style.title('Analysis:'));
  const age = formatAge(now.getTime() - Date.parse(backup.startTime));
  page.check(
    `Base backup: ${printable(backup.name)} (${backup.id}), ${formatTime(backup.startTime)} (${age})`,
  );
  page.check(`Size: ${formatBytes(plan.backupBytes)} in ${formatCount(backup.fileCount)} files`);
  page.check(
    `Log: ${formatCount(plan.logFiles.length)} files to replay (${formatBytes(plan.logBytes)}), without a gap`,
  );
  if (resolved.lastKept !== null) page.check(`Last transaction kept: ${describeEdge(resolved.lastKept)}`);
  if (resolved.firstDropped !== null)
    page.check(`First transaction dropped: ${describeEdge(resolved.firstDropped)}`);
  page.section(
    'Recovery Strategy',
    strategy(plan).map((step, index) => `${index + 1}. ${step}`),
  );
  page.line();
}

export function describeTarget(request: RecoveryRequest): string {
  switch (request.kind) {
    case 'latest':
      return 'the end of the archived log';
    case 'backup':
      return `backup ${printable(request.id)}, as it was at its end`;
    case 'time':
      return formatMoment(request.timeUs);
    case 'lsn':
      return `position ${formatLsn(request.lsn)}`;
    case 'xid':
      return `just ${request.after ? 'after' : 'before'} transaction ${request.xid}`;
  }
}

function describeEdge({ xid, timeUs, lsn }: EdgeTransaction): string {
  return `${xid}, ended ${formatMoment(timeUs)} (position ${formatLsn(lsn)})`;
}

function strategy({ backup, resolved, toBackupEnd }: RecoveryPlan): readonly string[] {
  const first = `Start from the base backup (${formatTime(backup.startTime)})`;
  if (toBackupEnd) return [first, `Replay the log to the backup's end (${formatTime(backup.stopTime)})`];
  if (resolved.lsn === null) return [first, 'Replay all of the archived log'];
  const end = `Replay the log up to position ${formatLsn(resolved.lsn)}`;
  const dropped = resolved.firstDropped;
  return dropped === null
    ? [first, end]
    : [first, end, `Stop before transaction ${dropped.xid}; it and all later ones are not in the result`];
}
