import { runStep } from '../../base/events.ts';
import { counted, formatCount, formatSeconds } from '../../base/sizes.ts';
import type { InstanceContext, RunOptions } from '../instance-context.ts';
import { assessRewind, type RewindAssessment } from '../rewind/assess-rewind.ts';
import type { RewindAmount } from '../rewind/decide-work.ts';
import { impossible } from '../rewind/rewind.ts';
import type { BegunLog } from '../rewind/rewind-log.ts';
import type { LiveInstance } from './live-instance.ts';
import type { RecoveryPlan } from './plan-restore.ts';
import type { RestoreWay } from './restore-report.ts';
import type { RestoreRequest } from './restore-request.ts';

/** How an instance is restored in place, and what a rewind would change. */
export type ChosenWay =
  | {
      readonly kind: 'rewind';
      readonly way: RestoreWay;
      readonly amount: RewindAmount;
      readonly begun: BegunLog | null;
    }
  | { readonly kind: 'full'; readonly way: RestoreWay };

/**
 * Chooses between rewinding the live data directory and restoring all of the backup beside it: whichever brings the
 * instance back sooner, unless one is asked for.
 *
 * @throws REWIND_IMPOSSIBLE when a rewind is asked for and cannot be made
 */
export async function chooseWay(
  context: InstanceContext,
  from: {
    readonly plan: RecoveryPlan;
    readonly live: LiveInstance;
    readonly stamp: string;
    readonly asked: RestoreRequest['way'];
  },
  options: RunOptions,
): Promise<ChosenWay> {
  const { plan, asked } = from;
  if (asked === 'full') return full('it was asked for');
  if (asked === 'auto' && plan.resolved.lsn === null && !plan.toBackupEnd) {
    return full(
      'the target is the end of the log, so what is wrong now is nothing that the log knows; a rewind trusts the pages that the log does not name',
    );
  }
  const assessment = await runStep(
    options.onEvent,
    { id: 'assess', title: 'Rewind considered', detail: describe },
    () => assessRewind(context, from, options.signal),
  );
  if (!assessment.possible) {
    if (asked === 'rewind') throw impossible(assessment.reason);
    return full(`a rewind is not possible: ${assessment.reason}`);
  }
  const { amount, begun, rewindSeconds, fullSeconds } = assessment;
  const both = `about ${formatSeconds(rewindSeconds)} to rewrite what has changed, about ${formatSeconds(fullSeconds)} to restore everything`;
  if (asked === 'auto' && rewindSeconds > fullSeconds)
    return { kind: 'full', way: { kind: 'full', reason: both, rewindSeconds, fullSeconds } };
  const reason = asked === 'rewind' ? `it was asked for; ${both}` : both;
  return { kind: 'rewind', amount, begun, way: { kind: 'rewind', reason, rewindSeconds, fullSeconds } };
}

function full(reason: string): ChosenWay {
  return { kind: 'full', way: { kind: 'full', reason, rewindSeconds: null, fullSeconds: null } };
}

function describe(found: RewindAssessment): string {
  if (!found.possible) return `not possible: ${found.reason}`;
  return `${counted(found.amount.pagesFromBackup, 'page')} from the backup, ${formatCount(found.amount.pagesLeft)} left to the log`;
}
