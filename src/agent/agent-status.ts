import type { SlotState } from '../engines/postgres/replication-slots.ts';
import type { WatchStatus } from '../watch/watch-status.ts';

/** A part of the log that was never received: the server had removed it. */
export interface LogGap {
  readonly systemIdentifier: string;
  readonly timeline: number;
  /** Positions as PostgreSQL prints them. */
  readonly from: string;
  readonly to: string;
  readonly noticed: string;
}

/** What `aishell agent status` prints. Positions are as PostgreSQL prints them, times ISO 8601. */
export interface AgentStatus {
  readonly instance: string;
  readonly pid: number;
  readonly version: string;
  readonly started: string;
  readonly state: 'connecting' | 'streaming' | 'spool full' | 'stopping';
  /** Why it does not stream. */
  readonly problem: string | null;
  readonly systemIdentifier: string | null;
  readonly timeline: number | null;
  readonly received: string | null;
  /** On the disk of the spool. */
  readonly durable: string | null;
  /** Where the server was when it last said so. */
  readonly server: string | null;
  readonly lagBytes: number | null;
  readonly archive: {
    readonly lastSegment: string | null;
    readonly lastSegmentAt: string | null;
    /** How far the segment being received is archived. */
    readonly part: string | null;
    readonly partAt: string | null;
    readonly segments: number;
    readonly parts: number;
    readonly problem: string | null;
  };
  readonly spool: {
    readonly directory: string;
    /** Not archived yet. */
    readonly waitingBytes: number;
    readonly waitingSegments: number;
    readonly limitBytes: number;
  };
  readonly slot:
    | (Omit<SlotState, 'restartLsn'> & { readonly restart: string | null; readonly warning: string | null })
    | null;
  readonly synchronous: 'off' | 'waiting' | 'on';
  readonly gaps: readonly LogGap[];
  /** Null: the instance is not watched. */
  readonly watch: WatchStatus | null;
}
