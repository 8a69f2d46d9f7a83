import { AppError } from '../../base/errors.ts';
import { classifyLogFileName } from '../../engines/postgres/lsn.ts';
import { readIdentities } from '../../repository/identity.ts';
import { listLogFiles } from '../../repository/log-archive.ts';
import type { BackupFacts } from '../../repository/manifest.ts';
import { listBackupIds, type Manifest, openManifest } from '../../repository/manifest-reader.ts';
import type { InstanceContext } from '../instance-context.ts';

export interface ListedBackup {
  readonly id: string;
  /** `damaged`: its manifest does not open; `problem` says why. */
  readonly status: 'valid' | 'damaged';
  readonly backup: BackupFacts | null;
  readonly problem: string | null;
}

export interface BackupList {
  readonly location: string;
  /** Newest first. */
  readonly backups: readonly ListedBackup[];
  readonly storedBytes: number;
  readonly log: LogSummary;
}

export interface LogSummary {
  readonly segments: number;
  readonly storedBytes: number;
  readonly newest: string | null;
  /** When the newest segment was stored. */
  readonly newestStored: string | null;
}

/** All backups of an instance, newest first. One that does not open is listed as damaged, not left out. */
export async function listBackups(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  signal: AbortSignal,
): Promise<BackupList> {
  const { repository, instance } = context;
  const backups: ListedBackup[] = [];
  for (const id of await listBackupIds(repository, instance, { signal })) {
    try {
      const manifest = await openManifest(repository, { instance, id }, { signal });
      if (manifest !== null) backups.unshift({ id, status: 'valid', backup: manifest.backup, problem: null });
    } catch (error) {
      if (!(error instanceof AppError) || !['CORRUPT', 'UNSUPPORTED', 'KEY_WRONG'].includes(error.code))
        throw error;
      backups.unshift({ id, status: 'damaged', backup: null, problem: error.message });
    }
  }
  return {
    location: repository.storage.description,
    backups,
    storedBytes: backups.reduce((sum, each) => sum + (each.backup?.storedBytes ?? 0), 0),
    log: await summarizeLog(context, signal),
  };
}

/**
 * The backup of an id, of its last characters, or of a name.
 *
 * @throws BACKUP_NOT_FOUND when there is none, USAGE when there are several
 */
export async function findBackup(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  text: string,
  signal: AbortSignal,
): Promise<Manifest> {
  const { repository, instance } = context;
  const ids = await listBackupIds(repository, instance, { signal });
  let found = ids.filter(id => id === text || (text.length >= 4 && id.endsWith(text)));
  if (found.length === 0) {
    const { backups } = await listBackups(context, signal);
    found = backups.filter(each => each.backup?.name === text).map(each => each.id);
  }
  const [id, ...others] = found;
  if (id === undefined) {
    throw new AppError('BACKUP_NOT_FOUND', `there is no backup '${text}' of instance '${instance}'`, {
      hint: 'See `aishell backup list`.',
    });
  }
  if (others.length > 0) {
    throw new AppError('USAGE', `'${text}' names ${found.length} backups: ${found.join(', ')}`, {
      hint: 'Give one of these ids.',
    });
  }
  const manifest = await openManifest(repository, { instance, id }, { signal });
  if (manifest === null) throw new AppError('BACKUP_NOT_FOUND', `there is no backup '${id}' any more`);
  return manifest;
}

async function summarizeLog(
  context: Pick<InstanceContext, 'instance' | 'repository'>,
  signal: AbortSignal,
): Promise<LogSummary> {
  const { repository, instance } = context;
  let segments = 0;
  let storedBytes = 0;
  let newest: string | null = null;
  let newestMs = 0;
  for (const { systemIdentifier } of await readIdentities(repository, instance, { signal })) {
    for await (const file of listLogFiles(repository, { instance, systemIdentifier }, {}, { signal })) {
      if (classifyLogFileName(file.name)?.kind !== 'segment') continue;
      segments += 1;
      storedBytes += file.storedBytes;
      if (file.storedMs < newestMs) continue;
      newest = file.name;
      newestMs = file.storedMs;
    }
  }
  return {
    segments,
    storedBytes,
    newest,
    newestStored: newest === null ? null : new Date(newestMs).toISOString(),
  };
}
