import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { AppError } from '../base/errors.ts';
import { endHolder, listHolders } from '../engines/postgres/snapshot-holders.ts';
import { isSnapshotHeld, isSnapshotName } from '../engines/postgres/transaction-owner.ts';
import type { HeldSnapshot, Incident } from '../operations/incident/incident.ts';
import type { DatabaseSessions } from './database-sessions.ts';
import type { Hold, SnapshotHold } from './snapshot-hold.ts';

const START_MS = 10_000;
/** Who has read the first name of the snapshot may still be about to use it. */
const BOTH_MS = 30_000;

/** A snapshot that a process of its own holds, which outlives the agent. */
export class DetachedHold implements Hold {
  readonly outlivesAgent = true;
  readonly #incident: string;
  readonly #sessions: DatabaseSessions;
  readonly #snapshot: HeldSnapshot;
  #first: SnapshotHold | null = null;
  #releasedAt: string | null = null;
  #onLost: () => void = () => undefined;

  constructor(incident: string, snapshot: HeldSnapshot, sessions: DatabaseSessions) {
    this.#incident = incident;
    this.#snapshot = snapshot;
    this.#sessions = sessions;
  }

  get isOver(): boolean {
    return this.#releasedAt !== null;
  }

  get until(): Date {
    return new Date(this.#snapshot.heldUntil);
  }

  get record(): HeldSnapshot {
    return { ...this.#snapshot, releasedAt: this.#releasedAt };
  }

  /** Only what does is given away. */
  seesBefore(): boolean {
    return true;
  }

  /** Takes over from the one that it was made of, whose name goes on to be good for a moment. */
  follow(first: SnapshotHold): void {
    this.#first = first;
    setTimeout(() => first.release(), BOTH_MS).unref();
  }

  whenLost(onLost: () => void): void {
    this.#onLost = onLost;
  }

  release(): void {
    if (this.isOver) return;
    this.#end();
    // Where the server does not answer, it has ended the session itself, or the process does when its time is over.
    void this.#sessions.control(client => endHolder(client, this.#incident)).catch(() => undefined);
  }

  /** Its session is gone. */
  lost(): void {
    if (this.isOver) return;
    this.#end();
    this.#onLost();
  }

  /** The agent ends, and the process goes on. */
  leave(): void {
    this.#first?.release();
  }

  #end(): void {
    this.#releasedAt = new Date().toISOString();
    this.#first?.release();
  }
}

/**
 * Gives a snapshot to a process of its own.
 *
 * @param command the program and the arguments that run it
 * @throws TIMEOUT DATABASE_FAILED it did not take it on
 */
export async function detachHold(
  command: readonly string[],
  given: {
    readonly incident: string;
    readonly hold: SnapshotHold;
    readonly limitBytes: number;
    readonly sessions: DatabaseSessions;
  },
): Promise<DetachedHold> {
  const { incident, hold, limitBytes, sessions } = given;
  const { name, database, heldUntil } = hold.record;
  const [program = '', ...args] = [
    ...[...command, '--incident', incident, '--database', database, '--snapshot', name],
    ...['--until', heldUntil, '--limit', String(limitBytes)],
  ];
  // In a session of its own: what ends the agent's group does not reach it.
  const child = spawn(program, args, { detached: true, stdio: ['ignore', 'pipe', 'ignore'] });
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const refuse = (why: string): void =>
    reject(new AppError('DATABASE_FAILED', `unable to hold the snapshot in a process of its own: ${why}`));
  const timer = setTimeout(() => refuse('it does not answer'), START_MS);
  createInterface({ input: child.stdout }).once('line', line =>
    isSnapshotName(line) ? resolve(line) : refuse('it says something else'),
  );
  child.on('error', error => refuse(error.message));
  child.once('exit', code => refuse(`it ended with ${code}`));
  try {
    const detached = new DetachedHold(incident, { ...hold.record, name: await promise }, sessions);
    child.once('exit', () => detached.lost());
    return detached;
  } catch (error) {
    child.kill();
    throw error;
  } finally {
    clearTimeout(timer);
    child.stdout.destroy();
    child.unref();
  }
}

/** The snapshot of an incident that an agent before this one has given away; null when it is not held any more. */
export async function findDetachedHold(
  sessions: DatabaseSessions,
  { id, guard }: Incident,
): Promise<DetachedHold | null> {
  const { snapshot } = guard;
  if (snapshot === null || snapshot.releasedAt !== null) return null;
  if (!(await sessions.control(listHolders)).includes(id)) return null;
  if (await sessions.asking(snapshot.database, client => isSnapshotHeld(client, snapshot.name)))
    return new DetachedHold(id, snapshot, sessions);
  // One that nobody can name is of no use to anybody.
  await sessions.control(client => endHolder(client, id));
  return null;
}
