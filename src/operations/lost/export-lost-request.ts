import type { RecoveryRequest } from '../restore/recovery-request.ts';
import type { ExportFormat } from './read-rows.ts';

export interface LostRequest {
  /** The recovery that loses it: made already, or only thought of. */
  readonly target: RecoveryRequest;
  /** Of the log that is lost; null: the incident's, or the one that the instance is on. */
  readonly timeline: number | null;
  /** Up to this time, in microseconds since 1970; null: to the end of the log. */
  readonly toUs: bigint | null;
  /** Transactions of the disaster beside that of the target and those of incidents on record. */
  readonly excluded: readonly number[];
  readonly format: ExportFormat;
  /** A directory for the files. */
  readonly output: string;
  /** Where a copy of the instance is restored meanwhile; null: beside its data directory. */
  readonly workDirectory: string | null;
  readonly dryRun: boolean;
}
