import { messageOf } from '../base/errors.ts';
import type { TellNote } from '../base/events.ts';
import { listHolders } from '../engines/postgres/snapshot-holders.ts';
import type { DatabaseSessions } from './database-sessions.ts';
import { DetachedHold, detachHold } from './detached-hold.ts';
import type { DisasterResponse } from './disaster-response.ts';
import type { SnapshotHold } from './snapshot-hold.ts';
import type { WatchSettings } from './watch-settings.ts';

interface HeldSnapshotsOptions {
  readonly settings: WatchSettings;
  readonly sessions: DatabaseSessions;
  readonly note: TellNote;
  /** The program and the arguments that hold a snapshot in a process of its own. */
  readonly holder: readonly string[];
}

/** Each is a process with some 60 MB; snapshots beyond them end with the agent. */
const MOST_PROCESSES = 8;

/** What becomes of the snapshots that are held: they are given to processes that outlive the agent, and have limits. */
export class HeldSnapshots {
  readonly #options: HeldSnapshotsOptions;
  #detached: readonly DetachedHold[] = [];

  constructor(options: HeldSnapshotsOptions) {
    this.#options = options;
  }

  /** Null where there are many, or no process can be begun, which is told. */
  async detach(incident: string, hold: SnapshotHold): Promise<DetachedHold | null> {
    const { holder, settings, sessions, note } = this.#options;
    this.#detached = this.#detached.filter(({ isOver }) => !isOver);
    if (this.#detached.length >= MOST_PROCESSES) return null;
    const given = { incident, hold, limitBytes: settings.holdLimitBytes, sessions };
    try {
      const detached = await detachHold(holder, given);
      this.#detached = [...this.#detached, detached];
      return detached;
    } catch (error) {
      const message = `${messageOf(error)}; it is held as long as the agent runs`;
      note('warning', message, { topic: 'problem', incident });
      return null;
    }
  }

  /** Lets go of what was held long enough. */
  keepLimits(responses: Iterable<DisasterResponse>): void {
    const { holdLimitBytes } = this.#options.settings;
    for (const response of responses) {
      const { hold } = response;
      if (hold === null || hold.isOver) continue;
      if (Date.now() >= hold.until.getTime()) response.release('it was held as long as `hold_for` allows');
      else if (response.writtenBytes > holdLimitBytes)
        response.release('more was written meanwhile than `hold_limit` allows');
    }
  }

  /** A process that holds a snapshot ends when its session does. */
  async look(responses: Iterable<DisasterResponse>): Promise<void> {
    const held = [...responses].flatMap(({ hold, incident }) =>
      hold instanceof DetachedHold && !hold.isOver ? [{ hold, incident }] : [],
    );
    if (held.length === 0) return;
    const there = await this.#options.sessions.control(listHolders);
    for (const { hold, incident } of held) if (!there.includes(incident.id)) hold.lost();
  }

  /** The agent ends: what does not outlive it is let go. */
  leave(responses: Iterable<DisasterResponse>): void {
    for (const response of responses) {
      const { hold, incident } = response;
      if (!(hold instanceof DetachedHold)) {
        response.release('the agent was stopped');
        continue;
      }
      hold.leave();
      if (hold.isOver) continue;
      const message = `the snapshot held for ${incident.id} stays until ${hold.record.heldUntil}, or until it is resolved`;
      this.#options.note('info', message, { topic: 'still held', incident: incident.id });
    }
  }
}
