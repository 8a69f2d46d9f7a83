import { AppError } from '../../base/errors.ts';
import { classifyLogFileName, nextSegment } from '../../engines/postgres/lsn.ts';
import { readIdentities } from '../../repository/identity.ts';
import { getLogFile, type LogOwner, listLogFiles } from '../../repository/log-archive.ts';
import { listBackupIds, type Manifest, openManifest } from '../../repository/manifest-reader.ts';
import type { InstanceContext } from '../instance-context.ts';
import { withLiveTail } from '../log/live-tail.ts';
import { type LogView, openLogView } from '../log/log-view.ts';
import { locateInstance } from '../restore/live-instance.ts';
import { isDamage } from '../verify/verify-problem.ts';

/** A part of the archived log without a gap. */
export interface LogRun {
  readonly from: bigint;
  /** Behind what is archived. */
  readonly to: bigint;
}

export interface InstanceLog {
  readonly view: LogView;
  /** Ascending; a gap is between each two. */
  readonly runs: readonly LogRun[];
}

type Context = Pick<InstanceContext, 'instance' | 'repository'>;

/**
 * The log of an instance on one timeline, from its oldest archived segment to what its server has not archived yet.
 * `timeline` null: the one that the instance is on, or the newest in the archive where there is no instance.
 *
 * @throws LOG_NOT_FOUND when nothing of it is archived
 */
export async function openInstanceLog(
  context: InstanceContext,
  timeline: number | null,
  signal: AbortSignal,
): Promise<InstanceLog> {
  // A server that is gone or does not answer is no reason not to look at its log.
  const live = await locateInstance(context, signal).catch((error: unknown) => {
    if (error instanceof AppError) return null;
    throw error;
  });
  const systemIdentifier = live?.systemIdentifier ?? (await lastSystem(context, signal));
  const owner = { instance: context.instance, systemIdentifier };
  const manifest = await newestManifest(context, systemIdentifier, signal);
  const segmentSize = manifest?.backup.walSegmentSize ?? (await storedSegmentSize(context, owner, signal));
  const backupTimelines = manifest === null ? [] : [manifest.backup.timeline];
  const source = { owner, segmentSize, timeline: timeline ?? live?.timeline ?? null, backupTimelines };
  const archived = await openLogView(context.repository, source, signal);
  const view = live === null ? archived : await withLiveTail(archived, live);
  const runs = await runsOf(context, view, signal);
  if (runs.length === 0) throw nothingArchived(context);
  return { view, runs };
}

async function lastSystem(context: Context, signal: AbortSignal): Promise<string> {
  const last = (await readIdentities(context.repository, context.instance, { signal })).at(-1);
  if (last === undefined)
    throw new AppError('INSTANCE_NOT_FOUND', `instance '${context.instance}' is not in this repository`, {
      hint: 'Run `aishell backup init` (it adds the instance to an existing repository).',
    });
  return last.systemIdentifier;
}

async function newestManifest(
  context: Context,
  systemIdentifier: string,
  signal: AbortSignal,
): Promise<Manifest | null> {
  for (const id of (await listBackupIds(context.repository, context.instance, { signal })).reverse()) {
    const manifest = await openManifest(
      context.repository,
      { instance: context.instance, id },
      { signal },
    ).catch((error: unknown) => {
      if (isDamage(error)) return null;
      throw error;
    });
    if (manifest?.backup.systemIdentifier === systemIdentifier) return manifest;
  }
  return null;
}

/** Without a backup, a segment itself says how large segments are. */
async function storedSegmentSize(context: Context, owner: LogOwner, signal: AbortSignal): Promise<number> {
  for await (const { name } of listLogFiles(context.repository, owner, {}, { signal })) {
    if (classifyLogFileName(name)?.kind !== 'segment') continue;
    const bytes = await getLogFile(context.repository, owner, name, { signal });
    if (bytes !== null) return bytes.length;
  }
  throw nothingArchived(context);
}

function nothingArchived({ instance }: Context): AppError {
  return new AppError('LOG_NOT_FOUND', `no log of instance '${instance}' is archived`, {
    hint: '`aishell doctor` says how to turn archiving on.',
  });
}

async function runsOf(context: Context, view: LogView, signal: AbortSignal): Promise<LogRun[]> {
  const { owner, segmentSize, end } = view;
  const starts: bigint[] = [];
  for await (const { name } of listLogFiles(context.repository, owner, {}, { signal })) {
    // Pieces of a segment begin with its name.
    const lsn = classifyLogFileName(name.slice(0, 24), segmentSize)?.lsn;
    if (lsn !== undefined && (end === null || lsn < end) && view.nameAt(lsn) !== null) starts.push(lsn);
  }
  // What is in the server's pg_wal alone follows what is archived.
  for (let lsn = starts.reduce((most, each) => (each > most ? each : most), 0n); starts.length > 0; ) {
    lsn = nextSegment(lsn, segmentSize);
    if (view.nameAt(lsn) === null) break;
    starts.push(lsn);
  }
  const runs: LogRun[] = [];
  for (const lsn of [...new Set(starts)].sort((a, b) => (a < b ? -1 : 1))) {
    const last = runs.at(-1);
    const reach = view.reachAt(lsn) ?? nextSegment(lsn, segmentSize);
    if (last?.to === lsn) runs[runs.length - 1] = { from: last.from, to: reach };
    else runs.push({ from: lsn, to: reach });
  }
  return runs;
}
