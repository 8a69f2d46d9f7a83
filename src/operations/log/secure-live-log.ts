import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { switchWal } from '../../engines/postgres/base-backup.ts';
import { withConnection } from '../../engines/postgres/connection.ts';
import { readControlFile } from '../../engines/postgres/control-file.ts';
import { classifyLogFileName, nextSegment } from '../../engines/postgres/lsn.ts';
import { scanSegment } from '../../engines/postgres/wal-scan.ts';
import { logPath } from '../../repository/layout.ts';
import { getLogFile, type LogOwner, putLogFile } from '../../repository/log-archive.ts';
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
 * being written under `<name>.partial`, as PostgreSQL itself does at the end of a timeline. Its name stays free for the
 * server, should it be started again.
 */
export async function secureStoppedLog(
  context: InstanceContext,
  source: { readonly owner: LogOwner; readonly dataDirectory: string },
  signal: AbortSignal,
): Promise<SecuredLog> {
  const control = await readControlFile(source.dataDirectory);
  const directory = join(source.dataDirectory, 'pg_wal');
  const size = control.walSegmentSize;
  const names = (
    await readdir(directory).catch((error: unknown) => {
      throw fileError('read', directory, error);
    })
  )
    .filter(name => {
      const kind = classifyLogFileName(name, size);
      return kind?.kind === 'segment' && kind.timeline === control.checkpoint.timeline;
    })
    .sort();
  const archived: string[] = [];
  let expected: bigint | null = null;
  for (const name of names) {
    signal.throwIfAborted();
    const lsn = classifyLogFileName(name, size)?.lsn;
    if (lsn === undefined || (expected !== null && lsn !== expected)) break;
    expected = nextSegment(lsn, size);
    if ((await context.repository.storage.head(logPath(source.owner, name), { signal })) !== null) continue;
    const bytes = new Uint8Array(await readFile(join(directory, name)));
    // Segments ahead of the end are old ones under new names: their header still says what they were.
    if (!isSegmentOf(bytes, name, source.owner)) break;
    const scan = scanSegment(bytes, { lsn, segmentSize: size });
    const complete = scan.ended === 'segment end';
    if (scan.recordCount === 0 && !complete) break;
    const file = { ...source.owner, name: complete ? name : `${name}.partial`, bytes, level: context.level };
    if (!complete) await removeEarlier(context, { ...file, scan: { lsn, segmentSize: size } }, signal);
    await putLogFile(context.repository, file, { signal });
    archived.push(file.name);
    if (!complete) break;
  }
  const detail =
    archived.length === 0 ? 'everything was archived' : `${archived.length} segments taken from pg_wal`;
  return { detail, archived, problem: null };
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

/**
 * A server that crashed, was started again and crashed within the same segment has more in it than what was taken the
 * first time: that goes, when the new one begins with all of its records.
 */
async function removeEarlier(
  context: InstanceContext,
  file: LogOwner & {
    readonly name: string;
    readonly bytes: Uint8Array;
    readonly scan: { readonly lsn: bigint; readonly segmentSize: number };
  },
  signal: AbortSignal,
): Promise<void> {
  const { repository } = context;
  const earlier = await getLogFile(repository, file, file.name, { signal });
  if (earlier === null || Buffer.compare(earlier, file.bytes) === 0) return;
  const end = scanSegment(earlier, file.scan).lastRecordEndLsn ?? file.scan.lsn;
  const length = Number(end - file.scan.lsn);
  if (Buffer.compare(earlier.subarray(0, length), file.bytes.subarray(0, length)) !== 0) return;
  await repository.storage.delete(logPath(file, file.name), { signal });
}

function isSegmentOf(bytes: Uint8Array, name: string, owner: LogOwner): boolean {
  try {
    return checkSegment(bytes, name) === owner.systemIdentifier;
  } catch {
    // A damaged or recycled segment ends the log; what is before it counts.
    return false;
  }
}
