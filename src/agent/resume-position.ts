import { segmentStart } from '../engines/postgres/lsn.ts';
import type { TimelineStart } from '../operations/log/log-view.ts';

/** Where to receive the log from: always the start of a segment. */
export interface ResumePosition {
  readonly timeline: number;
  readonly lsn: bigint;
}

/**
 * Where to go on, along the server's own history: behind what is known of its newest timeline, or of an ancestor as far
 * as that counts. Null when nothing on this history is known: then the slot says where.
 *
 * @param chain the server's timelines, the one it writes last
 * @param ends how far each timeline is known, in the spool or in the archive
 */
export function resumePosition(
  chain: readonly TimelineStart[],
  ends: ReadonlyMap<number, bigint>,
  segmentSize: number,
): ResumePosition | null {
  for (let index = chain.length - 1; index >= 0; index -= 1) {
    const { timeline, begin } = chain[index]!;
    const end = ends.get(timeline);
    if (end === undefined) continue;
    const left = chain[index + 1];
    // All of it up to where it was left, or more: what was written beyond is no part of this history.
    if (left !== undefined && end >= left.begin)
      return { timeline: left.timeline, lsn: segmentStart(left.begin, segmentSize) };
    if (end > begin) return { timeline, lsn: segmentStart(end, segmentSize) };
  }
  return null;
}

/**
 * The timeline under whose name the segment at a position lies: the one a timeline begins in is written anew under the new
 * name, with the old content before.
 */
export function timelineAt(chain: readonly TimelineStart[], lsn: bigint, segmentSize: number): number {
  const start = segmentStart(lsn, segmentSize);
  const last = chain.findLast(step => segmentStart(step.begin, segmentSize) <= start);
  return (last ?? chain[0]!).timeline;
}
