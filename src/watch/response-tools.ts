import type { TellNote } from '../base/events.ts';
import type { ChannelOutcome } from '../notify/notify.ts';
import type { Incident } from '../operations/incident/incident.ts';
import type { DatabaseSessions } from './database-sessions.ts';
import type { DetachedHold } from './detached-hold.ts';
import type { IncidentKeeper } from './incident-keeper.ts';
import type { IncidentOrigin } from './incident-states.ts';
import type { SnapshotHold } from './snapshot-hold.ts';

/** What responding works with. */
export interface ResponseTools {
  readonly origin: () => IncidentOrigin;
  readonly sessions: DatabaseSessions;
  readonly keeper: IncidentKeeper;
  readonly note: TellNote;
  /** Tells people; it never fails, and nothing waits for it. What came of it by channel; none where there are none. */
  readonly alert: (incident: Incident) => Promise<readonly ChannelOutcome[]>;
  readonly holdForMs: number;
  /** Gives a snapshot to a process that outlives the agent. Null where none can be begun, which is told. */
  readonly detach: (incident: string, hold: SnapshotHold) => Promise<DetachedHold | null>;
  /** Whether an agent before this one has begun with an incident of this transaction. */
  readonly isLeft: (xid: number) => boolean;
  /** How far the log is, for the limit of what is held. */
  readonly position: () => bigint;
}
