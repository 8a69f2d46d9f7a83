import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { switchWal } from '../../engines/postgres/base-backup.ts';
import { withConnection } from '../../engines/postgres/connection.ts';
import { readControlFile } from '../../engines/postgres/control-file.ts';
import { classifyLogFileName, nextSegment } from '../../engines/postgres/lsn.ts';
import { scanSegments } from '../../engines/postgres/wal-scan.ts';
import { logPath } from '../../repository/layout.ts';
import {
  getLogFile,
  type LogOwner,
  listLogParts,
  putLogFile,
  putLogPart,
} from '../../repository/log-archive.ts';
import { PARTIAL_SUFFIX, partName, reachOf } from '../../repository/log-parts.ts';
import type { Repository } from '../../repository/repository.ts';
import type { InstanceContext } from '../instance-context.ts';
import { checkSegment } from './archive-segment.ts';
import { historyName } from './log-view.ts';
import { waitForLog } from './wait-for-log.ts';

export interface SecuredLog {
  /** How far the archive reaches now, for people. */
  readonly detail: string;
  readonly archived: readonly string[];
  /** What could not be secured, and why it matters. */
  readonly problem: string | null;
}

/**
 * Gets what a running server has written up to now into the archive: completes its segment and waits until
 * archive_command has delivered it. Without this the last minute before a disaster would be missing.
 */
export async function secureRunningLog(
  context: InstanceContext,
  owner: LogOwner,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<SecuredLog> {
  const { segment } = await withConnection(context.connection, { signal: options.signal }, client =>
    switchWal(client, options.signal),
  );
  const missing = await waitForLog(
    context.repository,
    { owner, names: [segment], timeoutMs: options.timeoutMs },
    options.signal,
  );
  if (missing.length === 0) return { detail: `up to ${segment}`, archived: [segment], problem: null };
  return {
    detail: `${segment} not archived`,
    archived: [],
    problem: `archive_command has not delivered ${segment} within ${options.timeoutMs / 1000}s: what was committed last may be out of reach`,
  };
}

/**
 * The same for a stopped or crashed server, from its own pg_wal: whole segments under their names, and the one that was
 * being written as a piece that ends with its last whole record. Should the server be started again, it goes on behind
 * that record: the piece stays true, and the segment's name stays free.
 *
 * @throws LOG_CONFLICT when the archive has other bytes for the unfinished segment
 */
export async function secureStoppedLog(
  context: Pick<InstanceContext, 'repository' | 'level'>,
  source: { readonly owner: LogOwner; readonly dataDirectory: string },
  signal: AbortSignal,
): Promise<SecuredLog> {
  const { owner } = source;
  const control = await readControlFile(source.dataDirectory);
  const directory = join(source.dataDirectory, 'pg_wal');
  const segmentSize = control.walSegmentSize;
  const names = await segmentsIn(directory, { segmentSize, timeline: control.checkpoint.timeline });
  if (names === null) {
    const problem = `'${directory}' is missing: what was committed after the end of the archived log is lost`;
    return { detail: 'pg_wal is missing', archived: [], problem };
  }
  const first = await firstUnarchived(context.repository, owner, names, signal);
  const archived: string[] = [];
  // The one before is read too: a record may begin in it and end in the first that is taken.
  const wanted = names.slice(Math.max(0, first - 1));
  const held = new Map<bigint, { readonly name: string; readonly bytes: Uint8Array }>();
  async function* segments(): AsyncGenerator<{ lsn: bigint; bytes: Uint8Array }, void, undefined> {
    let expected: bigint | null = null;
    for (const name of wanted) {
      signal.throwIfAborted();
      const lsn = classifyLogFileName(name, segmentSize)?.lsn;
      if (lsn === undefined || (expected !== null && lsn !== expected)) return;
      expected = nextSegment(lsn, segmentSize);
      const bytes = new Uint8Array(await readFile(join(directory, name)));
      // Segments ahead of the end are old ones under new names: their header still says what they were.
      if (!isSegmentOf(bytes, name, owner)) return;
      held.set(lsn, { name, bytes });
      yield { lsn, bytes };
    }
  }
  for await (const scan of scanSegments(segments(), { segmentSize })) {
    const { name, bytes } = held.get(scan.lsn)!;
    held.delete(scan.lsn);
    if (names.indexOf(name) < first) continue;
    if (scan.ended === 'segment end') {
      await putLogFile(context.repository, { ...owner, name, bytes, level: context.level }, { signal });
      archived.push(name);
      continue;
    }
    const end = scan.lastRecordEndLsn;
    if (end === null || end <= scan.lsn) break;
    const written = bytes.subarray(0, Number(end - scan.lsn));
    const part = await putTail(context, { owner, segment: name, written }, signal);
    if (part !== null) archived.push(part);
  }
  const detail =
    archived.length === 0
      ? 'everything was archived'
      : `${archived.length} segment${archived.length === 1 ? '' : 's'} taken from pg_wal`;
  return { detail, archived, problem: null };
}

/** Null when the directory is lost, with a disk of its own perhaps: then the archive is all there is. */
async function segmentsIn(
  directory: string,
  of: { readonly segmentSize: number; readonly timeline: number },
): Promise<string[] | null> {
  const files = await readdir(directory).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return null;
    throw fileError('read', directory, error);
  });
  if (files === null) return null;
  const isSegment = (name: string): boolean => {
    const kind = classifyLogFileName(name, of.segmentSize);
    return kind?.kind === 'segment' && kind.timeline === of.timeline;
  };
  return files.filter(isSegment).sort();
}

/** The index of the first of these segments that is not archived whole. */
async function firstUnarchived(
  repository: Repository,
  owner: LogOwner,
  names: readonly string[],
  signal: AbortSignal,
): Promise<number> {
  let index = 0;
  for (const name of names) {
    if ((await repository.storage.head(logPath(owner, name), { signal })) === null) break;
    index += 1;
  }
  return index;
}

/** Archives what a segment holds beyond the pieces that are there; null when they reach as far. */
async function putTail(
  context: Pick<InstanceContext, 'repository' | 'level'>,
  tail: { readonly owner: LogOwner; readonly segment: string; readonly written: Uint8Array },
  signal: AbortSignal,
): Promise<string | null> {
  const { owner, segment, written } = tail;
  const { repository, level } = context;
  const from = reachOf(await listLogParts(repository, owner, segment, { signal }));
  if (from > 0) {
    const known = await getLogFile(repository, owner, `${segment}${PARTIAL_SUFFIX}`, { signal });
    const both = Math.min(from, written.length);
    if (known !== null && Buffer.compare(known.subarray(0, both), written.subarray(0, both)) !== 0) {
      throw new AppError(
        'LOG_CONFLICT',
        `unable to archive what pg_wal holds of '${segment}': pieces of it are archived already, with other bytes`,
        { hint: 'Nothing was overwritten. Does another server archive under this instance name?' },
      );
    }
  }
  if (from >= written.length) return null;
  await putLogPart(repository, { ...owner, segment, from, bytes: written.subarray(from), level }, { signal });
  return partName(segment, from, written.length);
}

/**
 * The history of the timeline a server is on says where it left its ancestors; without it nothing of the timeline can be
 * found. One that it was promoted to before it was protected has never been archived.
 *
 * @throws LOG_CONFLICT when the archive has another timeline of that number
 */
export async function secureHistory(
  context: Pick<InstanceContext, 'repository' | 'level'>,
  source: { readonly owner: LogOwner; readonly dataDirectory: string; readonly timeline: number },
  signal: AbortSignal,
): Promise<void> {
  if (source.timeline === 1) return;
  const name = historyName(source.timeline);
  const path = join(source.dataDirectory, 'pg_wal', name);
  try {
    const bytes = new Uint8Array(await readFile(path));
    const { instance, systemIdentifier } = source.owner;
    await putLogFile(
      context.repository,
      { instance, systemIdentifier, name, bytes, level: context.level },
      { signal },
    );
  } catch (error) {
    if (error instanceof AppError) throw error;
    // Then the archive may have it.
    if (systemCode(error) !== 'ENOENT') throw fileError('read', path, error);
  }
}

function isSegmentOf(bytes: Uint8Array, name: string, owner: LogOwner): boolean {
  try {
    return checkSegment(bytes, name) === owner.systemIdentifier;
  } catch {
    // A damaged or recycled segment ends the log; what is before it counts.
    return false;
  }
}
