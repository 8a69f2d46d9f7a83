import { randomBytes } from 'node:crypto';
import { open, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError, fileError } from '../../base/errors.ts';
import { classifyLogFileName } from '../../engines/postgres/lsn.ts';
import { readIdentities } from '../../repository/identity.ts';
import { getLogFile, type LogOwner, listLogParts } from '../../repository/log-archive.ts';
import { PARTIAL_SUFFIX } from '../../repository/log-parts.ts';
import type { Repository } from '../../repository/repository.ts';

/** Waits between tries when the storage does not answer; then the recovery stops rather than end too early. */
const RETRY_AFTER_MS = [500, 2000, 5000];

/**
 * Fetches a log file for `restore_command`: `name` is PostgreSQL's `%f`, `path` its `%p`. The file appears whole or not at
 * all. False: it is not archived, which PostgreSQL takes for the end of the log.
 *
 * @throws STORAGE_UNREACHABLE and others after retries: the caller must exit above 125
 */
export async function fetchSegment(
  repository: Repository,
  request: { readonly instance: string; readonly name: string; readonly path: string },
): Promise<boolean> {
  const kind = classifyLogFileName(request.name)?.kind;
  if (kind === undefined) {
    throw new AppError('USAGE', `unable to fetch '${request.name}': it is not the name of a log file`, {
      hint: "Set restore_command = 'aishell backup wal-fetch %f %p'.",
    });
  }
  const systemIdentifier = await systemToFetch(repository, request.instance);
  const owner = { instance: request.instance, systemIdentifier };
  const bytes =
    (await withRetries(() => getLogFile(repository, owner, request.name))) ??
    (kind === 'segment' ? await withRetries(() => joinedParts(repository, owner, request.name)) : null);
  if (bytes === null) return false;
  await writeWhole(resolve(request.path), bytes);
  return true;
}

/**
 * The last segment, as far as it was archived before it was full. Only pieces are joined: a `.partial` of PostgreSQL's own
 * belongs to a timeline that was left within it, and the server looks for the segment of the new one.
 */
async function joinedParts(
  repository: Repository,
  owner: LogOwner,
  name: string,
): Promise<Uint8Array | null> {
  if ((await listLogParts(repository, owner, name)).length === 0) return null;
  return await getLogFile(repository, owner, `${name}${PARTIAL_SUFFIX}`);
}

/** The server runs `restore_command` in its data directory, whose control file says which system it is. */
async function systemToFetch(repository: Repository, instance: string): Promise<string> {
  const control = await readFile(join('global', 'pg_control')).catch(() => null);
  if (control !== null && control.length >= 8) return control.readBigUInt64LE(0).toString();
  const [identity, ...others] = await withRetries(() => readIdentities(repository, instance));
  if (identity === undefined)
    throw new AppError('INSTANCE_NOT_FOUND', `instance '${instance}' is not in this repository`);
  if (others.length === 0) return identity.systemIdentifier;
  throw new AppError('SYSTEM_MISMATCH', `instance '${instance}' has been several database systems`, {
    hint: 'Run it as PostgreSQL does: in the data directory.',
  });
}

async function withRetries<T>(work: () => Promise<T>): Promise<T> {
  for (const pauseMs of RETRY_AFTER_MS) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'STORAGE_UNREACHABLE') throw error;
      await sleep(pauseMs);
    }
  }
  return work();
}

async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = join(dirname(path), `.aishell-${randomBytes(6).toString('hex')}.tmp`);
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(bytes);
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw fileError('write', path, error);
  }
}
