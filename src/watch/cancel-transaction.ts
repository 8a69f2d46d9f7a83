import { setTimeout as sleep } from 'node:timers/promises';
import {
  cancelTransaction,
  findOwner,
  findPrepared,
  terminateTransaction,
} from '../engines/postgres/transaction-owner.ts';
import { quoteLiteral } from '../engines/postgres/write-controls.ts';
import type { DatabaseSessions } from './database-sessions.ts';
import type { Sighting } from './sighting.ts';

interface Cancelling {
  /** Whom the server told; null when the transaction had ended before. */
  readonly pid: number | null;
  /** Its session had to be ended, as it would have gone on. */
  readonly terminated: boolean;
}

/** A statement that is cancelled ends within milliseconds, unless it is deep in something. */
const PATIENCE_MS = 300;
const CANCELS = 3;

/**
 * Undoes a transaction while it runs: cancels its statement, and ends its session where that is not enough, as when it waits
 * for its next statement or catches the error. Each time it is found anew by its number, so that what has ended is never
 * mistaken for what began since.
 *
 * @throws DATABASE_UNREACHABLE DATABASE_DENIED DATABASE_FAILED
 */
async function cancelUntilGone(sessions: DatabaseSessions, xid: number): Promise<Cancelling> {
  let told: number | null = null;
  for (let attempt = 0; attempt < CANCELS; attempt += 1) {
    const pid = await sessions.control(client => cancelTransaction(client, xid));
    if (pid === null) return { pid: told, terminated: false };
    told = pid;
    await sleep(PATIENCE_MS);
    const owner = await sessions.control(client => findOwner(client, xid));
    if (owner === null) return { pid: told, terminated: false };
    if (owner.state !== 'active') break;
  }
  const ended = await sessions.control(client => terminateTransaction(client, xid));
  return { pid: told ?? ended, terminated: ended !== null };
}

/** The same for what was seen, unless it turns out to be somebody who is allowed to: then null. What came of it, as an event. */
export async function cancelSighted(
  sessions: DatabaseSessions,
  { owner, judgeFor, xid }: Pick<Sighting, 'owner' | 'judgeFor' | 'xid'>,
): Promise<{ readonly event: 'cancelled' | 'not cancelled'; readonly text: string } | null> {
  if (judgeFor(await owner.catch(() => null)) !== 'cancel') return null;
  const { pid, terminated } = await cancelUntilGone(sessions, xid);
  // Whoever was told may have prepared it just before.
  const prepared = await sessions.control(client => findPrepared(client, xid));
  if (prepared !== null) {
    const undoing = `ROLLBACK PREPARED ${quoteLiteral(prepared)}`;
    const text = `the transaction is prepared, and no session runs it: ${undoing} undoes it`;
    return { event: 'not cancelled', text };
  }
  if (pid === null)
    return { event: 'not cancelled', text: 'the transaction had ended before it could be cancelled' };
  const text = terminated
    ? `the session of process ${pid} was ended`
    : `the statement of process ${pid} was cancelled`;
  return { event: 'cancelled', text };
}
