import type { PreparedTransaction, SessionFacts } from '../../engines/postgres/write-sessions.ts';
import type { Incident } from '../incident/incident.ts';
import type { RecoveryOutlook } from '../recovery-time/recovery-outlook.ts';
import type { StopPlan } from './plan-stop.ts';
import type { Change, StopLevel } from './stop-record.ts';

/** Something that was done, and when. */
export interface StopAction {
  readonly step: string;
  readonly text: string;
  readonly at: string;
}

/** Milliseconds since the stop was asked for, or confirmed. Null: not measured, or not seen. */
export interface StopTimes {
  /** Everything that will be changed is on record. */
  readonly recordedMs: number | null;
  /** A session that begins now may not write, unless it says so itself. */
  readonly readOnlyMs: number | null;
  /** The last time that a transaction was seen to begin or end a write; an upper bound of the last write. */
  readonly lastWriteMs: number | null;
  /** All sessions that could still write have ended. */
  readonly terminatedMs: number | null;
  /** The level is reached. */
  readonly stoppedMs: number | null;
}

/** What was seen after writes were stopped. */
export interface StopProof {
  readonly watchedMs: number;
  /** How many transactions began to write in that time: 0 is what a stop is for. */
  readonly transactions: number;
  /** Sessions that were seen to write. */
  readonly sessions: readonly SessionFacts[];
  /** The server is in recovery mode: nothing can write, whoever asks. */
  readonly inRecovery: boolean;
  /** The log's position at the end. */
  readonly lsn: string;
}

/** Where a recovery would best go to: just before the transaction that stands out most, and the command for it. */
export interface RecommendedTarget {
  readonly xid: number;
  /** What the transaction did, for people. */
  readonly did: string;
  readonly committedAt: string | null;
  /** Null where no backup reaches back so far. */
  readonly command: string | null;
}

export interface StopReport {
  readonly dryRun: boolean;
  /** Null after a dry run. */
  readonly id: string | null;
  readonly instance: string;
  readonly level: StopLevel;
  readonly reason: string | null;
  /** When writes were first stopped. */
  readonly stoppedAt: string | null;
  /** Writes were stopped before; this made sure of it, or made it stricter. */
  readonly already: boolean;
  readonly plan: StopPlan;
  readonly actions: readonly StopAction[];
  readonly ended: readonly SessionFacts[];
  readonly prepared: readonly PreparedTransaction[];
  readonly changes: readonly Change[];
  readonly times: StopTimes;
  readonly proof: StopProof | null;
  readonly log: { readonly detail: string; readonly archived: readonly string[] } | null;
  readonly backupId: string | null;
  /** What writes were stopped for: on record before, or found in the log. Null when nothing is known of a disaster. */
  readonly incident: Incident | null;
  readonly recommended: RecommendedTarget | null;
  /** How long a recovery would take; null without an incident. */
  readonly outlook: RecoveryOutlook | null;
  /** What needs attention: exit code 3. */
  readonly problems: readonly string[];
}
