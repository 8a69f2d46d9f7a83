import { join } from 'node:path';
import type { ChangeMap } from '../../engines/postgres/change-map.ts';
import type { ControlFile } from '../../engines/postgres/control-file.ts';
import { nextSegment, parseLsn, segmentStart } from '../../engines/postgres/lsn.ts';
import { getLogFile } from '../../repository/log-archive.ts';
import type { BackupFacts } from '../../repository/manifest.ts';
import type { InstanceContext } from '../instance-context.ts';
import { type BegunChanges, beginChanges, changesSoFar, readChanges } from '../log/log-summaries.ts';
import { historyName, type LogView } from '../log/log-view.ts';
import { compareLiveLog } from '../log/same-log.ts';
import type { LogFileToFeed } from '../restore/log-feeder.ts';
import { findLiveLogEnd, readSegments } from './live-log-end.ts';
import { SETTLED_SPARES, type Settling, settlingFrom } from './settling.ts';

/** The log of a rewind: from the start of the backup to the target, and on to the end of the live database's own. */
export interface RewindLog {
  readonly view: LogView;
  readonly backup: BackupFacts;
  readonly targetLsn: bigint;
  /** The target is the end of the log, wherever that will be. */
  readonly isToEnd: boolean;
}

/** Where the archived log, whole from the start of the backup on, ends. */
export function archivedEnd({ view, backup }: Pick<RewindLog, 'view' | 'backup'>): bigint {
  return archivedFrom(view, parseLsn(backup.startLsn));
}

/** Where the archived log, going on without a gap from the segment that holds `lsn`, ends; unfinished segments do not count. */
export function archivedFrom(view: LogView, lsn: bigint): bigint {
  let at = segmentStart(lsn, view.segmentSize);
  for (;;) {
    const next = nextSegment(at, view.segmentSize);
    if (view.reachAt(at) !== next || view.nameAt(at) !== view.expectedName(at)) return at;
    at = next;
  }
}

/** What was read of a log whose end is not known yet. */
export interface BegunLog {
  readonly changes: BegunChanges;
  readonly since: { readonly from: bigint; readonly changes: BegunChanges } | null;
}

/** What the archived log alone names: enough to plan with while the server still runs, and to go on from. */
export async function beginArchivedChanges(
  context: Pick<InstanceContext, 'repository'>,
  log: RewindLog,
  signal: AbortSignal,
): Promise<{ readonly map: ChangeMap; readonly settling: Settling | null; readonly begun: BegunLog }> {
  const { view, targetLsn: target } = log;
  const from = parseLsn(log.backup.startLsn);
  const upTo = archivedEnd(log);
  const changes = await beginChanges(context, view, { from, upTo, target }, signal);
  const map = changesSoFar(changes, from, view.segmentSize);
  const since = whereSettled(log, map);
  if (since === null) return { map, settling: null, begun: { changes, since: null } };
  const later = await beginChanges(context, view, { from: since, upTo, target }, signal);
  const { forks: pages } = changesSoFar(later, since, view.segmentSize);
  const settling = { from: since, spares: SETTLED_SPARES, pages };
  return { map, settling, begun: { changes, since: { from: since, changes: later } } };
}

/**
 * From where on changes tell which pages are settled; null where none shall be. To the end of the log, the replay finds out that
 * there is no more, begins again, and then needs all of it. And a page that is damaged in the backup could be settled, and be
 * needed all the same when the rewind is gone on with.
 */
function whereSettled(log: RewindLog, map: ChangeMap): bigint | null {
  const { view, backup, targetLsn, isToEnd } = log;
  if (isToEnd || backup.damagedPages.length > 0) return null;
  const range = { startLsn: parseLsn(backup.startLsn), archivedEnd: archivedEnd(log), targetLsn };
  return settlingFrom({ view, ...range }, map.events);
}

export interface WholeLog {
  readonly map: ChangeMap;
  readonly settling: Settling | null;
  readonly endLsn: bigint;
}

/**
 * What the whole log names, to the very end of a stopped server's own, which is read from its `pg_wal` as far as it is not
 * archived. The string instead says why that is not certain.
 *
 * @throws LOG_NOT_FOUND, CORRUPT when the log is not whole from the start of the backup to that end
 */
export async function readWholeChanges(
  context: Pick<InstanceContext, 'repository'>,
  log: RewindLog,
  live: {
    readonly control: ControlFile;
    readonly logDirectory: string;
    /** What was read of the same log, for the same target, while the server still ran. */
    readonly begun: BegunLog | null;
  },
  signal: AbortSignal,
): Promise<WholeLog | string> {
  const { control, logDirectory } = live;
  // To the end of the log is further by now.
  const begun = live.begun?.changes.target === log.targetLsn ? live.begun : null;
  const archived = archivedEnd(log);
  const foreign = await whyOtherLog(log, logDirectory);
  if (foreign !== null) return foreign;
  const checkpoint = segmentStart(control.checkpoint.lsn, control.walSegmentSize);
  const end = await findLiveLogEnd(logDirectory, {
    control,
    // From the last checkpoint on, every segment is still there; an earlier one may be archived only.
    from: checkpoint < archived ? checkpoint : archived,
  });
  if (typeof end === 'string') return end;
  const unarchived = end.segments.filter(segment => segment.lsn >= archived);
  const to = { to: end.endLsn, target: log.targetLsn };
  const read = (from: bigint, before: BegunChanges | null): Promise<ChangeMap> => {
    const options = { signal, begun: before, extra: readSegments(unarchived) };
    return readChanges(context, log.view, { from, ...to }, options);
  };
  const startLsn = parseLsn(log.backup.startLsn);
  const map = await read(startLsn, begun?.changes ?? null);
  // What a crashed server has not written to its files, no page of them tells.
  const since = control.state === 'shut down' ? whereSettled(log, map) : null;
  if (since === null) return { map, settling: null, endLsn: end.endLsn };
  const later = await read(since, begun?.since?.from === since ? begun.since.changes : null);
  return { map, settling: { from: since, spares: SETTLED_SPARES, pages: later.forks }, endLsn: end.endLsn };
}

/**
 * Why the archived log is not that of the live directory, as after its disk went back to a snapshot: then it does not name
 * the pages that were changed there. Null when the two agree, or only follow each other, joined by the links of records.
 */
export async function whyOtherLog(log: RewindLog, logDirectory: string): Promise<string | null> {
  const from = parseLsn(log.backup.startLsn);
  const to = archivedEnd(log) - 1n;
  const { foreign } = await compareLiveLog(log.view, logDirectory, { from, to });
  return foreign === null
    ? null
    : `segment ${foreign} of its log is not the one that is archived: it was put back to an older state`;
}

/**
 * Why pages of the live directory may hold hints that no record names: sessions on a standby set them in pages that wait to be
 * written, so of transactions that ended behind the target, where it was promoted after that. Null when that cannot be.
 * @source storage/buffer/bufmgr.c, MarkBufferDirtyHint; access/transam/xlogrecovery.c, getRecoveryStopReason
 */
export async function whyStandbyHints(
  { repository }: Pick<InstanceContext, 'repository'>,
  { view, targetLsn }: RewindLog,
  signal: AbortSignal,
): Promise<string | null> {
  if (!view.chain.some(step => step.begin > targetLsn)) return null;
  const history = await getLogFile(repository, view.owner, historyName(view.timeline), { signal });
  return wasReadBehind(Buffer.from(history ?? []).toString('utf8'), targetLsn)
    ? 'the live server was a standby, or in another recovery, after the target, and who read there may have left hints that the log does not name'
    : null;
}

/**
 * Whether a timeline's history says that it, or one before it, was begun behind a position by something else than this program:
 * its own recoveries end before a position, and nobody reads in them.
 */
export function wasReadBehind(history: string, lsn: bigint): boolean {
  return history.split('\n').some(line => {
    const match = /^\s*\d+\s+([0-9A-F]+\/[0-9A-F]+)\s+(.*)$/i.exec(line);
    return match?.[1] !== undefined && parseLsn(match[1]) > lsn && !match[2]?.startsWith('before LSN ');
  });
}

/** The log files from the start of the backup to behind the target, and the histories of timelines; linked where they were kept. */
export function logFilesOf(
  log: Omit<RewindLog, 'isToEnd'>,
  kept: {
    readonly names: ReadonlySet<string>;
    readonly directory: string;
    /** Segments before it come from the archive, so that they can be changed. */
    readonly notBefore: bigint;
  },
): LogFileToFeed[] {
  const { view, backup, targetLsn } = log;
  const files: LogFileToFeed[] = [];
  // The record at the target, which the replay must see to stop, may go on in the next segment.
  const end = nextSegment(nextSegment(targetLsn, view.segmentSize), view.segmentSize);
  for (
    let lsn = segmentStart(parseLsn(backup.startLsn), view.segmentSize);
    lsn < end;
    lsn = nextSegment(lsn, view.segmentSize)
  ) {
    const as = view.expectedName(lsn);
    const name = view.nameAt(lsn);
    const path = kept.names.has(as) && lsn >= kept.notBefore ? { path: join(kept.directory, as) } : {};
    if (name === null && path.path === undefined) break;
    files.push({ name: name ?? as, as, sizeBytes: view.segmentSize, ...path });
  }
  for (const name of view.historyFiles) files.push({ name, as: name });
  return files;
}
