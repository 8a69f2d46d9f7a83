import { readJsonFile, writeJsonFile } from '../base/json-file.ts';
import type { Session } from '../engines/postgres/connection.ts';
import { formatLsn, nextSegment, parseLsn, segmentStart } from '../engines/postgres/lsn.ts';
import { createSlot, dropSlot, listServerSegments, readSlot } from '../engines/postgres/replication-slots.ts';
import type { LogGap } from './agent-status.ts';

/** Holes in the log that were found, for ever: each is an error once, and stays in the status. */
export function readGaps(path: string): readonly LogGap[] {
  return readJsonFile<readonly LogGap[]>(path) ?? [];
}

/**
 * Remembers a hole that begins behind what was received, or where the log was asked for. Null where it was told already: what
 * lies before it may wait to be archived still, and so may what was received behind it.
 */
export async function recordGap(
  path: string,
  hole: {
    readonly systemIdentifier: string;
    readonly timeline: number;
    /** What was asked for: the start of a segment. */
    readonly lsn: bigint;
    /** The end of what is in the spool. */
    readonly received: bigint;
    /** Where the server's log begins. */
    readonly to: bigint;
  },
  segmentSize: number,
): Promise<LogGap | null> {
  const { systemIdentifier, timeline, lsn, received, to } = hole;
  const known = readGaps(path);
  const own = known.filter(each => each.systemIdentifier === systemIdentifier && each.timeline === timeline);
  const behind = nextSegment(lsn, segmentSize);
  const isTold = own.some(each => parseLsn(each.from) >= lsn && parseLsn(each.from) <= behind);
  if (isTold && received >= to) return null;
  const from = formatLsn(received > lsn && received < to ? received : lsn);
  const gap = { systemIdentifier, timeline, from, to: formatLsn(to), noticed: new Date().toISOString() };
  const others = known.filter(each => each.from !== from || each.timeline !== timeline);
  await writeJsonFile(path, [...others, gap]);
  return gap;
}

/**
 * Makes sure that there is a slot that holds the log, and says where that begins. One that was lost cannot be used any
 * more: it is made anew.
 *
 * @returns `isNew`: the log between what was received and now may be gone
 */
export async function ensureSlot(
  client: Session,
  name: string,
  signal: AbortSignal,
): Promise<{ readonly restartLsn: bigint | null; readonly isNew: boolean; readonly wasLost: boolean }> {
  const slot = await readSlot(client, name, signal);
  const wasLost = slot?.walStatus === 'lost';
  if (slot !== null && !wasLost) return { restartLsn: slot.restartLsn, isNew: false, wasLost };
  if (slot !== null) await dropSlot(client, name, signal);
  await createSlot(client, name, signal);
  const made = await readSlot(client, name, signal);
  return { restartLsn: made?.restartLsn ?? null, isNew: true, wasLost };
}

/**
 * Where the server's log begins behind a place of which it has nothing any more: its oldest segment, of those that follow
 * each other up to now. Null when that is not to be found out.
 */
export async function firstAvailable(
  client: Session,
  at: { readonly timeline: number; readonly lsn: bigint; readonly flushLsn: bigint },
  options: { readonly segmentSize: number; readonly signal: AbortSignal },
): Promise<bigint | null> {
  const { segmentSize, signal } = options;
  const present = new Set(
    await listServerSegments(client, { timeline: at.timeline, segmentSize }, signal).catch(() => []),
  );
  let start = segmentStart(at.flushLsn, segmentSize);
  if (!present.has(start)) return null;
  const size = BigInt(segmentSize);
  while (start - size > at.lsn && present.has(start - size)) start -= size;
  return start > at.lsn ? start : null;
}

export function describeGap(gap: LogGap): string {
  return `log is missing: the server removed ${gap.from} to ${gap.to} of timeline ${gap.timeline} before it was received; no moment in it can be recovered, and none after it from a backup before it. Take a new one now: \`aishell backup create\``;
}
