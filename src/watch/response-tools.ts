import type { TellNote } from '../base/events.ts';
import type { Incident } from '../operations/incident/incident.ts';
import type { DatabaseSessions } from './database-sessions.ts';
import type { IncidentKeeper } from './incident-keeper.ts';
import type { IncidentOrigin } from './incident-states.ts';

/** What responding works with. */
export interface ResponseTools {
  readonly origin: () => IncidentOrigin;
  readonly sessions: DatabaseSessions;
  readonly keeper: IncidentKeeper;
  readonly note: TellNote;
  /** Tells people; it never fails, and is not waited for. */
  readonly alert: (incident: Incident) => void;
  readonly holdForMs: number;
  /** Whether an agent before this one has begun with an incident of this transaction. */
  readonly isLeft: (xid: number) => boolean;
  /** How far the log is, for the limit of what is held. */
  readonly position: () => bigint;
}
