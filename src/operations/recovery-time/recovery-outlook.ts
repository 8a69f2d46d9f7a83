import type { InstanceContext } from '../instance-context.ts';
import { estimateRecovery, type RecoveryEstimate } from './estimate-recovery.ts';
import { recoveryNeeds } from './recovery-needs.ts';
import { speedOf } from './recovery-speed.ts';
import { readSpeeds } from './speed-file.ts';

/** How long a recovery would take now, beside how long it may. */
export interface RecoveryOutlook {
  readonly instance: string;
  /** Null: there is no backup, and nothing could be recovered. */
  readonly estimate: RecoveryEstimate | null;
  /** Null: none is configured. */
  readonly objectiveSeconds: number | null;
  /** `unknown` without an objective, or where there is no backup to estimate by. */
  readonly state: 'kept' | 'passed' | 'unknown';
  /** When this machine last recovered the instance; null: never, so that the estimate is a guess. */
  readonly measuredAt: string | null;
}

/** Estimates how long a recovery of the instance would take now. It reads; it changes nothing. */
export async function recoveryOutlook(
  context: Pick<
    InstanceContext,
    'instance' | 'repository' | 'connection' | 'stateDirectory' | 'recoveryTimeObjectiveSeconds'
  >,
  signal: AbortSignal,
): Promise<RecoveryOutlook> {
  const record = await readSpeeds(context.stateDirectory, context.instance);
  const needs = await recoveryNeeds(context, signal);
  const estimate = needs === null ? null : estimateRecovery(needs, speedOf(record));
  const objectiveSeconds = context.recoveryTimeObjectiveSeconds;
  return {
    instance: context.instance,
    estimate,
    objectiveSeconds,
    state: stateOf(estimate, objectiveSeconds),
    measuredAt: record?.measuredAt ?? null,
  };
}

function stateOf(
  estimate: RecoveryEstimate | null,
  objectiveSeconds: number | null,
): RecoveryOutlook['state'] {
  if (estimate === null || objectiveSeconds === null) return 'unknown';
  return estimate.seconds <= objectiveSeconds ? 'kept' : 'passed';
}
