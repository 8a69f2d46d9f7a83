import { AppError } from '../../base/errors.ts';
import {
  classifyLogFileName,
  nextSegment,
  parseLsn,
  segmentName,
  segmentStart,
} from '../../engines/postgres/lsn.ts';
import { getLogFile, type LogOwner, listLogFiles } from '../../repository/log-archive.ts';
import type { Repository } from '../../repository/repository.ts';

/** A timeline and where it begins: the switch point from its parent, 0 for the first. */
export interface TimelineStart {
  readonly timeline: number;
  readonly begin: bigint;
}

/** The archived log along one timeline and its ancestors, read-only. */
export interface LogView {
  readonly owner: LogOwner;
  readonly segmentSize: number;
  /** Oldest ancestor first, the followed timeline last. */
  readonly chain: readonly TimelineStart[];
  readonly timeline: number;
  /** The name under which the segment at `lsn` is archived (`.partial` when only that is there); null when it is not. */
  nameAt(lsn: bigint): string | null;
  /** What the segment at `lsn` would be called. */
  expectedName(lsn: bigint): string;
  /** A segment's bytes. @throws LOG_NOT_FOUND, CORRUPT */
  read(lsn: bigint): Promise<Uint8Array>;
  /** The start of the first segment that is missing, going on from the one that holds `lsn`. */
  firstMissing(lsn: bigint): bigint;
  /** The end of the newest archived segment of the followed timeline; null when there is none. */
  readonly end: bigint | null;
  /**
   * The archived history files of the chain, and of later timelines: a recovery goes on with the first number it finds
   * unused, and would otherwise take one that a restore undone since has used.
   * @source access/transam/timeline.c, findNewestTimeLine
   */
  readonly historyFiles: readonly string[];
}

/**
 * Looks at the archived log. `timeline` null: the newest there is, which is the one the instance went on with last.
 *
 * @throws LOG_NOT_FOUND when the timeline is not in the archive, CORRUPT
 */
export async function openLogView(
  repository: Repository,
  source: {
    readonly owner: LogOwner;
    readonly segmentSize: number;
    readonly timeline: number | null;
    readonly backupTimelines: readonly number[];
  },
  signal: AbortSignal,
): Promise<LogView> {
  const { owner, segmentSize } = source;
  const stored = new Set<string>();
  const histories = new Set<number>();
  let newest = Math.max(1, ...source.backupTimelines);
  for await (const file of listLogFiles(repository, owner, {}, { signal })) {
    const kind = classifyLogFileName(file.name, segmentSize);
    if (kind === null || kind.kind === 'backup') continue;
    if (kind.kind === 'history') histories.add(kind.timeline);
    else stored.add(file.name);
    newest = Math.max(newest, kind.timeline);
  }
  const timeline = source.timeline ?? newest;
  const chain = await readChain(repository, { owner, timeline, hasHistory: histories.has(timeline) }, signal);
  let end: bigint | null = null;
  for (const name of stored) {
    const kind = classifyLogFileName(name, segmentSize);
    if (kind?.timeline !== timeline || kind.lsn === undefined) continue;
    const after = nextSegment(kind.lsn, segmentSize);
    if (end === null || after > end) end = after;
  }
  const timelineAt = (lsn: bigint): number => {
    const start = segmentStart(lsn, segmentSize);
    // The segment a timeline begins in lies in the archive under the new timeline, with the old one's content before it.
    return chain.findLast(step => segmentStart(step.begin, segmentSize) <= start)?.timeline ?? timeline;
  };
  const expectedName = (lsn: bigint): string =>
    segmentName(timelineAt(lsn), segmentStart(lsn, segmentSize), segmentSize);
  const nameAt = (lsn: bigint): string | null => {
    const name = expectedName(lsn);
    if (stored.has(name)) return name;
    return stored.has(`${name}.partial`) ? `${name}.partial` : null;
  };
  return {
    owner,
    segmentSize,
    chain,
    timeline,
    nameAt,
    expectedName,
    end,
    historyFiles: [...histories]
      .filter(each => each > timeline || chain.some(step => step.timeline === each))
      .map(historyName),
    async read(lsn) {
      const name = nameAt(lsn);
      const bytes = name === null ? null : await getLogFile(repository, owner, name, { signal });
      if (bytes === null)
        throw new AppError('LOG_NOT_FOUND', `log segment '${expectedName(lsn)}' is not archived`);
      return bytes;
    },
    firstMissing(lsn) {
      let at = segmentStart(lsn, segmentSize);
      while (nameAt(at) !== null) at = nextSegment(at, segmentSize);
      return at;
    },
  };
}

/** `00000002.history`. */
export function historyName(timeline: number): string {
  return `${timeline.toString(16).toUpperCase().padStart(8, '0')}.history`;
}

/** Reads a history file: a line for each ancestor, its number and where it was left. @source access/transam/timeline.c */
export function parseHistory(text: string, timeline: number): TimelineStart[] {
  const chain: TimelineStart[] = [];
  let begin = 0n;
  for (const line of text.split('\n')) {
    const match = /^\s*(\d+)\s+([0-9A-Fa-f]+\/[0-9A-Fa-f]+)/.exec(line);
    if (match === null) continue;
    chain.push({ timeline: Number(match[1]), begin });
    begin = parseLsn(match[2]!);
  }
  return [...chain, { timeline, begin }];
}

async function readChain(
  repository: Repository,
  source: { readonly owner: LogOwner; readonly timeline: number; readonly hasHistory: boolean },
  signal: AbortSignal,
): Promise<TimelineStart[]> {
  const { owner, timeline } = source;
  if (timeline === 1) return [{ timeline, begin: 0n }];
  const bytes = source.hasHistory
    ? await getLogFile(repository, owner, historyName(timeline), { signal })
    : null;
  if (bytes === null) {
    throw new AppError('LOG_NOT_FOUND', `the history of timeline ${timeline} is not archived`, {
      hint: `Without ${historyName(timeline)} it is not known where this timeline began. Choose another with --timeline.`,
    });
  }
  return parseHistory(Buffer.from(bytes).toString('utf8'), timeline);
}
