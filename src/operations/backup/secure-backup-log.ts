import { hash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { type OnEvent, runStep } from '../../base/events.ts';
import { counted } from '../../base/sizes.ts';
import type { BaseBackup, BaseBackupEnd } from '../../engines/postgres/base-backup.ts';
import { parseLsn } from '../../engines/postgres/lsn.ts';
import { logPath } from '../../repository/layout.ts';
import type { LogOwner } from '../../repository/log-archive.ts';
import { contentHash } from '../../repository/log-object.ts';
import type { InstanceContext } from '../instance-context.ts';
import { secureHistory } from '../log/secure-live-log.ts';
import { segmentsOf, waitForLog } from '../log/wait-for-log.ts';
import type { InstanceAnalysis } from './analyze-instance.ts';
import type { FileCopier } from './copy-files.ts';

export interface BackupLog {
  /** The log is among the backup's own files. */
  readonly included: boolean;
  readonly archived: boolean;
  readonly problem: string | null;
}

/** A backup without the log from its start to its end is worthless: waits until it is archived, or takes it along. */
export async function secureBackupLog(
  request: {
    readonly context: InstanceContext;
    readonly analysis: InstanceAnalysis;
    readonly base: BaseBackup;
    readonly end: BaseBackupEnd;
    readonly copier: FileCopier;
    readonly logTimeoutMs: number;
  },
  options: { readonly signal: AbortSignal; readonly onEvent: OnEvent },
): Promise<BackupLog> {
  const { context, analysis, base, end, copier } = request;
  const { signal } = options;
  const { facts } = analysis;
  const names = segmentsOf({
    timeline: base.timeline,
    from: parseLsn(base.startLsn),
    to: parseLsn(end.stopLsn),
    segmentSize: facts.walSegmentSize,
  });
  const owner = { instance: context.instance, systemIdentifier: facts.systemIdentifier };
  const { dataDirectory } = analysis;
  await secureHistory(context, { owner, dataDirectory, timeline: base.timeline }, signal);
  let problem: string | null = null;
  if (analysis.archiving === 'on') {
    const missing = await runStep(
      options.onEvent,
      {
        id: 'log',
        title: 'Log of the backup archived',
        detail: left =>
          left.length === 0
            ? counted(names.length, 'segment')
            : `${left.length} of ${names.length} segments missing: taken along`,
      },
      () => waitForLog(context.repository, { owner, names, timeoutMs: request.logTimeoutMs }, signal),
    );
    problem =
      missing[0] === undefined
        ? await findForeign(request, { owner, names }, signal)
        : `archive_command has not delivered ${missing[0]} within ${request.logTimeoutMs / 1000}s: later points in time cannot be reached until it does. See the server's log, and \`aishell doctor\`.`;
    if (problem === null) return { included: false, archived: true, problem: null };
  } else if (analysis.archiving === 'elsewhere') {
    problem =
      'archive_command does not run `aishell backup wal-archive`: this backup can be restored to its own end, to no later point in time. `aishell doctor` says what to set.';
  } else {
    problem =
      'log archiving is off: this backup can be restored to its own end, to no later point in time. `aishell doctor` says how to turn it on.';
  }
  if (base.logNotHeld !== null && problem === null) problem = base.logNotHeld;
  for (const name of names) {
    const source = join(analysis.dataDirectory, 'pg_wal', name);
    await copier.copy({
      path: `pg_wal/${name}`,
      source,
      sizeBytes: facts.walSegmentSize,
      mode: 0o600,
      firstBlock: null,
      whenNotWhole: () => removedTooSoon(name, base.logNotHeld),
    });
  }
  return { included: true, archived: false, problem };
}

/**
 * Whether the archive has other segments under these names, and what that means; null when they are the server's. The newest
 * that it still has decides, as records link back to those before them.
 */
async function findForeign(
  { context, analysis }: { readonly context: InstanceContext; readonly analysis: InstanceAnalysis },
  log: { readonly owner: LogOwner; readonly names: readonly string[] },
  signal: AbortSignal,
): Promise<string | null> {
  for (const name of log.names.toReversed()) {
    const path = join(analysis.dataDirectory, 'pg_wal', name);
    const bytes = await readFile(path).catch((error: unknown) => {
      if (systemCode(error) === 'ENOENT') return null;
      throw fileError('read', path, error);
    });
    if (bytes === null) continue;
    const archived = await contentHash(context.repository, logPath(log.owner, name), { signal });
    return archived === hash('sha256', bytes, 'hex')
      ? null
      : `segment ${name} of the server's log is not the one that is archived, as after its disk was put back to an older state: this backup can be restored to its own end (--backup-id), to no later point in time, and the log is not archived any more.`;
  }
  return null;
}

function removedTooSoon(name: string, notHeld: string | null): AppError {
  return new AppError(
    'LOG_NOT_FOUND',
    `unable to finish the backup: the server has removed log segment '${name}', without which it cannot be restored${notHeld === null ? '' : `, as nothing held it (${notHeld})`}`,
    {
      hint: 'Let archive_command run `aishell backup wal-archive` (`aishell doctor` says how), or have the server keep its log: a free replication slot (max_replication_slots), or wal_keep_size.',
    },
  );
}
