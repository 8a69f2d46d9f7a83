import { AppError } from '../../base/errors.ts';
import {
  classifyLogFileName,
  nextSegment,
  parseLsn,
  segmentName,
  segmentStart,
} from '../../engines/postgres/lsn.ts';
import { getLogFile, type LogOwner, listLogFiles } from '../../repository/log-archive.ts';
import { type LogPart, PARTIAL_SUFFIX, parsePartName, reachOf } from '../../repository/log-parts.ts';
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
  /**
   * The name under which the segment at `lsn` is read: its own when it is archived whole, `<name>.partial` when only
   * pieces of it are (or PostgreSQL's own `.partial`); null when nothing of it is.
   */
  nameAt(lsn: bigint): string | null;
  /**
   * How far the segment at `lsn` is archived: its end when it is whole; null when nothing of it is. Of a `.partial` that
   * was archived under this name it is not known, and taken for all.
   */
  reachAt(lsn: bigint): bigint | null;
  /** What the segment at `lsn` would be called. */
  expectedName(lsn: bigint): string;
  /** A segment's bytes. @throws LOG_NOT_FOUND, CORRUPT */
  read(lsn: bigint): Promise<Uint8Array>;
  /**
   * The start of the first segment that cannot be used, going on from the one that holds `lsn`: it is missing, or the one
   * before it is archived only in part.
   */
  firstMissing(lsn: bigint): bigint;
  /** The end of the newest archived segment of the followed timeline, be it whole or not; null when there is none. */
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
  const stored = await listStored(repository, source, signal);
  const { segments, parts, histories } = stored;
  const timeline = source.timeline ?? stored.newestTimeline;
  const chain = await readChain(repository, { owner, timeline, hasHistory: histories.has(timeline) }, signal);
  const timelineAt = (lsn: bigint): number => {
    const start = segmentStart(lsn, segmentSize);
    // The segment a timeline begins in lies in the archive under the new timeline, with the old one's content before it.
    return chain.findLast(step => segmentStart(step.begin, segmentSize) <= start)?.timeline ?? timeline;
  };
  const expectedName = (lsn: bigint): string =>
    segmentName(timelineAt(lsn), segmentStart(lsn, segmentSize), segmentSize);
  const nameAt = (lsn: bigint): string | null => {
    const name = expectedName(lsn);
    if (segments.has(name)) return name;
    const partial = `${name}${PARTIAL_SUFFIX}`;
    return parts.has(name) || segments.has(partial) ? partial : null;
  };
  const reachAt = (lsn: bigint): bigint | null => {
    const name = nameAt(lsn);
    if (name === null) return null;
    const own = parts.get(expectedName(lsn));
    const whole = nextSegment(lsn, segmentSize);
    if (own === undefined || !name.endsWith(PARTIAL_SUFFIX)) return whole;
    return segmentStart(lsn, segmentSize) + BigInt(own);
  };
  return {
    owner,
    segmentSize,
    chain,
    timeline,
    nameAt,
    reachAt,
    expectedName,
    end: endOf(stored, timeline, segmentSize),
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
      for (;;) {
        const reach = reachAt(at);
        if (reach === null) return at;
        at = nextSegment(at, segmentSize);
        // What is missing of a segment is a hole, whatever comes behind it.
        if (reach < at) return at;
      }
    },
  };
}

/** The same log as it is in the archive now. @throws as {@link openLogView} */
export async function reopenLogView(
  repository: Repository,
  view: LogView,
  signal: AbortSignal,
): Promise<LogView> {
  const { owner, segmentSize, timeline } = view;
  return await openLogView(repository, { owner, segmentSize, timeline, backupTimelines: [] }, signal);
}

/** What there is of a log, by its objects' names. */
interface StoredLog {
  /** Segments that are there under their own name, and those archived as `.partial`. */
  readonly segments: ReadonlySet<string>;
  /** How far the pieces of a segment reach, by its name. */
  readonly parts: ReadonlyMap<string, number>;
  readonly histories: ReadonlySet<number>;
  readonly newestTimeline: number;
}

async function listStored(
  repository: Repository,
  source: {
    readonly owner: LogOwner;
    readonly segmentSize: number;
    readonly backupTimelines: readonly number[];
  },
  signal: AbortSignal,
): Promise<StoredLog> {
  const segments = new Set<string>();
  const pieces = new Map<string, LogPart[]>();
  const histories = new Set<number>();
  let newestTimeline = Math.max(1, ...source.backupTimelines);
  for await (const file of listLogFiles(repository, source.owner, {}, { signal })) {
    const part = parsePartName(file.name);
    const kind = classifyLogFileName(part?.segment ?? file.name, source.segmentSize);
    if (kind === null || kind.kind === 'backup') continue;
    if (part !== null) pieces.set(part.segment, [...(pieces.get(part.segment) ?? []), part]);
    else if (kind.kind === 'history') histories.add(kind.timeline);
    else segments.add(file.name);
    newestTimeline = Math.max(newestTimeline, kind.timeline);
  }
  const parts = new Map<string, number>();
  for (const [segment, own] of pieces) {
    const reach = reachOf(own);
    if (reach > 0) parts.set(segment, reach);
  }
  return { segments, parts, histories, newestTimeline };
}

function endOf(stored: StoredLog, timeline: number, segmentSize: number): bigint | null {
  let end: bigint | null = null;
  for (const name of [...stored.segments, ...stored.parts.keys()]) {
    const kind = classifyLogFileName(name, segmentSize);
    if (kind?.timeline !== timeline || kind.lsn === undefined) continue;
    const after = nextSegment(kind.lsn, segmentSize);
    if (end === null || after > end) end = after;
  }
  return end;
}

/** `00000002.history`. */
export function historyName(timeline: number): string {
  return `${timeline.toString(16).toUpperCase().padStart(8, '0')}.history`;
}

/** What of a history lies on one of its timelines: from where, and up to where that was left. Null: it never was on it. */
export function partOnTimeline(
  { chain }: Pick<LogView, 'chain'>,
  timeline: number,
): { readonly begin: bigint; readonly left: bigint | null } | null {
  const index = chain.findIndex(step => step.timeline === timeline);
  const step = chain[index];
  return step === undefined ? null : { begin: step.begin, left: chain[index + 1]?.begin ?? null };
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
