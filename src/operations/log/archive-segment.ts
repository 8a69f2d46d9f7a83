import { lstat, open, readFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { formatBytes, GIB } from '../../base/sizes.ts';
import { classifyLogFileName, formatLsn, isSegmentSize } from '../../engines/postgres/lsn.ts';
import type { CompressionLevel } from '../../repository/compression.ts';
import { checkIdentity, readIdentities } from '../../repository/identity.ts';
import { putLogFile } from '../../repository/log-archive.ts';
import type { Repository } from '../../repository/repository.ts';

/** A file of this name in a data directory says that it is a restored copy: its log is never archived. */
export const COPY_MARKER = 'aishell-copy.json';

/** The long header that every segment begins with. @source access/xlog_internal.h, XLogLongPageHeaderData */
const header = { pageAddress: 8, systemIdentifier: 24, segmentSize: 32, bytes: 40 } as const;

export interface ArchiveRequest {
  readonly instance: string;
  /** PostgreSQL's `%p`: relative to the data directory, in which it runs `archive_command`. */
  readonly path: string;
  readonly level: CompressionLevel;
}

/**
 * Archives one log file; resolves only once it is durable. Runs for every segment of a busy server: it loads little.
 *
 * @throws COPY_REFUSED, SYSTEM_MISMATCH, LOG_CONFLICT, CORRUPT when the file is not a log file of its name
 */
export async function archiveSegment(
  repository: Repository,
  request: ArchiveRequest,
  signal?: AbortSignal,
): Promise<{ readonly name: string; readonly outcome: 'stored' | 'same'; readonly sizeBytes: number }> {
  const path = resolve(request.path);
  const name = basename(path);
  const kind = classifyLogFileName(name)?.kind;
  if (kind === undefined) {
    throw new AppError('USAGE', `unable to archive '${name}': it is not the name of a log file`, {
      hint: "Set archive_command = 'aishell backup wal-archive %p'.",
    });
  }
  const dataDirectory = dirname(dirname(path));
  await refuseCopy(dataDirectory);
  const bytes = await readLogFile(path);
  const claimed = kind === 'segment' || kind === 'partial' ? checkSegment(bytes, name) : null;
  const options = signal === undefined ? {} : { signal };
  const systemIdentifier = claimed ?? (await systemOf(repository, request.instance, dataDirectory));
  await checkIdentity(repository, { instance: request.instance, systemIdentifier }, options);
  // Its summary is left to summarize-log.ts, or to whoever reads it first: making one here, in a process that has just started,
  // takes as long as archiving the segment (measured: 246 ms for both, against 147 ms), and the server waits.
  const { instance, level } = request;
  const outcome = await putLogFile(repository, { instance, systemIdentifier, name, bytes, level }, options);
  return { name, outcome, sizeBytes: bytes.length };
}

/** @throws COPY_REFUSED when the data directory is a restored copy */
export async function refuseCopy(dataDirectory: string): Promise<void> {
  try {
    await lstat(join(dataDirectory, COPY_MARKER));
  } catch (error) {
    // Only its certain absence allows it; anything else (no permission, a broken disk) is not an answer.
    if (['ENOENT', 'ENOTDIR'].includes(systemCode(error))) return;
    throw fileError('read', join(dataDirectory, COPY_MARKER), error);
  }
  throw new AppError(
    'COPY_REFUSED',
    `'${dataDirectory}' is a restored copy: its log does not go into the archive of its origin`,
    {
      hint: `To make it an instance of its own, remove ${COPY_MARKER} from it and run \`aishell backup init --name NAME\` for it.`,
    },
  );
}

/**
 * Checks that a segment is what its name says, by its first bytes, and returns the decimal system identifier it carries.
 *
 * @throws CORRUPT
 */
export function checkSegment(head: Uint8Array, name: string, sizeBytes = head.length): string {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const size = head.length >= header.bytes ? view.getUint32(header.segmentSize, true) : 0;
  if (!isSegmentSize(size) || size !== sizeBytes) {
    throw notASegment(name, `it is ${formatBytes(sizeBytes)} long and its header says ${formatBytes(size)}`);
  }
  const address = view.getBigUint64(header.pageAddress, true);
  const expected = classifyLogFileName(name, size)?.lsn;
  if (address !== expected) {
    throw notASegment(
      name,
      `its header says position ${formatLsn(address)}${expected === undefined ? '' : `, not ${formatLsn(expected)}`}`,
    );
  }
  return view.getBigUint64(header.systemIdentifier, true).toString();
}

/** History and backup files carry no system identifier: the control file beside them does. */
async function systemOf(repository: Repository, instance: string, dataDirectory: string): Promise<string> {
  try {
    const control = await readFile(join(dataDirectory, 'global', 'pg_control'));
    if (control.length >= 8) return control.readBigUInt64LE(0).toString();
  } catch (error) {
    if (systemCode(error) !== 'ENOENT')
      throw fileError('read', join(dataDirectory, 'global', 'pg_control'), error);
  }
  const [identity, ...others] = await readIdentities(repository, instance);
  if (identity !== undefined && others.length === 0) return identity.systemIdentifier;
  throw new AppError(
    'SYSTEM_MISMATCH',
    `unable to tell which database system the log in '${dataDirectory}' belongs to`,
    {
      hint: 'Run it as PostgreSQL does: with %p, in the data directory.',
    },
  );
}

async function readLogFile(path: string): Promise<Uint8Array> {
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      if (size > GIB) throw notASegment(basename(path), `it is ${formatBytes(size)} long`);
      const bytes = new Uint8Array(size);
      for (let done = 0; done < size; ) {
        const { bytesRead } = await file.read(bytes, done, size - done, done);
        if (bytesRead === 0) throw notASegment(basename(path), 'it got shorter while it was read');
        done += bytesRead;
      }
      return bytes;
    } finally {
      await file.close();
    }
  } catch (error) {
    throw error instanceof AppError ? error : fileError('read', path, error);
  }
}

export function notASegment(name: string, why: string): AppError {
  return new AppError(
    'CORRUPT',
    `unable to archive '${name}': it is not a whole log segment of that name (${why})`,
    {
      hint: "Nothing was archived. Look at the server's disk: the segment is empty, cut off, or another one under this name.",
    },
  );
}
