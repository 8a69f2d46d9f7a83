import type { RunOptions } from '../instance-context.ts';
import type { RecoveryRequest } from './recovery-request.ts';
import type { RestoreReport } from './restore-report.ts';

export interface RestoreRequest {
  readonly target: RecoveryRequest;
  /** Null: in place. */
  readonly directory: string | null;
  /** Null: the one that the live instance is on, else the newest. */
  readonly timeline: number | null;
  readonly dryRun: boolean;
  /** In place: rewind the live files, restore all of the backup beside them, or whichever is sooner. */
  readonly way: 'auto' | 'rewind' | 'full';
  /** After a rewind: check everything before the instance is open, instead of at once after. */
  readonly verifyBeforeOpen: boolean;
}

export interface RestoreOptions extends RunOptions {
  /**
   * Asked before anything of the instance is touched: first for `restore <instance>`, with what is going to be
   * overwritten; then, with everything checked and ready, for `YES`. Throws to refuse.
   */
  readonly confirm: (question: 'instance' | 'ready', plan: RestoreReport) => Promise<void>;
}
