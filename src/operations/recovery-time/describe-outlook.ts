import { formatSeconds } from '../../base/sizes.ts';
import type { RecoveryOutlook } from './recovery-outlook.ts';

/** Estimate and objective in one line: `12.3s of at most 1m 0s (measured on this machine)`. */
export function describeOutlook({ estimate, objectiveSeconds }: RecoveryOutlook): string {
  if (estimate === null) return 'unknown: there is no backup';
  const objective = objectiveSeconds === null ? '' : ` of at most ${formatSeconds(objectiveSeconds)}`;
  const sure = {
    measured: 'measured on this machine',
    'partly measured': 'partly measured on this machine',
    guessed: 'a guess until this machine has restored once',
  }[estimate.confidence];
  return `about ${formatSeconds(estimate.seconds)}${objective} (${sure})`;
}
