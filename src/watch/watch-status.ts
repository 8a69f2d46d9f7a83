import type { HeldSnapshot, IncidentTransaction } from '../operations/incident/incident.ts';
import type { GuardPolicy } from './watch-settings.ts';

/** What the watch of an instance does, as `aishell agent status` tells it. */
export interface WatchStatus {
  readonly policy: GuardPolicy;
  /** Why some of the log was passed over lately; null when none was. */
  readonly problem: string | null;
  /** What is kept on the server, and for which incident. */
  readonly held: readonly {
    readonly incident: string;
    readonly outcome: IncidentTransaction['outcome'];
    readonly snapshot: HeldSnapshot | null;
    /** A process of its own holds the snapshot, which goes on when the agent ends. */
    readonly outlivesAgent: boolean;
    readonly autovacuumOff: readonly string[];
  }[];
  /** Transactions that looked like a disaster and turned out to be none. */
  readonly dismissed: number;
}
