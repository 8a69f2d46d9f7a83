import { setTimeout as sleep } from 'node:timers/promises';
import { nextSegment, segmentName, segmentStart } from '../../engines/postgres/lsn.ts';
import { logPath } from '../../repository/layout.ts';
import type { LogOwner } from '../../repository/log-archive.ts';
import type { Repository } from '../../repository/repository.ts';

export interface LogRange {
  readonly timeline: number;
  readonly from: bigint;
  /** Exclusive: the segment that holds the byte before it is the last one. */
  readonly to: bigint;
  readonly segmentSize: number;
}

/** The names of the segments that hold a range of the log. */
export function segmentsOf(range: LogRange): string[] {
  const names: string[] = [];
  for (
    let at = segmentStart(range.from, range.segmentSize);
    at < range.to;
    at = nextSegment(at, range.segmentSize)
  ) {
    names.push(segmentName(range.timeline, at, range.segmentSize));
  }
  return names;
}

const POLL_MS = 25;

/** Waits until segments are in the archive; returns those that are still missing when the time is up. */
export async function waitForLog(
  repository: Repository,
  wanted: { readonly owner: LogOwner; readonly names: readonly string[]; readonly timeoutMs: number },
  signal: AbortSignal,
): Promise<string[]> {
  // Not by the clock, which may be set meanwhile.
  const giveUpAt = performance.now() + wanted.timeoutMs;
  let missing = [...wanted.names];
  for (;;) {
    const still: string[] = [];
    for (const name of missing) {
      if ((await repository.storage.head(logPath(wanted.owner, name), { signal })) === null) still.push(name);
    }
    missing = still;
    if (missing.length === 0 || performance.now() >= giveUpAt) return missing;
    await sleep(POLL_MS, undefined, { signal });
  }
}
