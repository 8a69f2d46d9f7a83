import { AppError } from '../../base/errors.ts';
import { queryRow, withConnection } from '../../engines/postgres/connection.ts';
import { parseLsn } from '../../engines/postgres/lsn.ts';
import type { BackupFacts } from '../../repository/manifest.ts';
import { listBackupIds, openManifest } from '../../repository/manifest-reader.ts';
import type { InstanceContext } from '../instance-context.ts';
import { openLogView } from '../log/log-view.ts';
import { isDamage } from '../verify/verify-problem.ts';
import type { RecoveryNeeds } from './estimate-recovery.ts';

type Context = Pick<InstanceContext, 'instance' | 'repository' | 'connection'>;

/** The server as it is now. */
interface LiveFacts {
  readonly systemIdentifier: string;
  readonly lsn: string;
  readonly checksums: string;
  readonly hintsLogged: string;
  readonly walLevel: string;
}

/**
 * What a recovery of this instance would have to do now, from its newest backup: asked from the server or, where that
 * does not answer, from the archive alone. Null: there is no backup that opens.
 */
export async function recoveryNeeds(context: Context, signal: AbortSignal): Promise<RecoveryNeeds | null> {
  const live = await askServer(context, signal);
  const backup = await newestBackup(context, live?.systemIdentifier ?? null, signal);
  if (backup === null) return null;
  const end = live === null ? await archivedEnd(context, backup, signal) : parseLsn(live.lsn);
  const logBytes = Math.max(0, Number(end - parseLsn(backup.startLsn)));
  return { backup, logBytes, whyNotRewind: whyNotRewind(live) };
}

async function askServer(context: Context, signal: AbortSignal): Promise<LiveFacts | null> {
  try {
    return await withConnection(context.connection, { signal }, client =>
      queryRow<LiveFacts>(client, 'ask how far the log is', {
        text: `select (select system_identifier::text from pg_control_system()) as "systemIdentifier",
                      (case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
                            else pg_current_wal_lsn() end)::text as lsn,
                      current_setting('data_checksums') as checksums,
                      current_setting('wal_log_hints') as "hintsLogged",
                      current_setting('wal_level') as "walLevel"`,
        signal,
      }),
    );
  } catch (error) {
    // A server that is down is when the answer matters most; the archive knows nearly as much.
    if (error instanceof AppError && error.code === 'DATABASE_UNREACHABLE') return null;
    throw error;
  }
}

async function newestBackup(
  context: Context,
  systemIdentifier: string | null,
  signal: AbortSignal,
): Promise<BackupFacts | null> {
  const { repository, instance } = context;
  for (const id of (await listBackupIds(repository, instance, { signal })).reverse()) {
    try {
      const manifest = await openManifest(repository, { instance, id }, { signal });
      if (manifest === null) continue;
      if (systemIdentifier === null || manifest.backup.systemIdentifier === systemIdentifier)
        return manifest.backup;
    } catch (error) {
      // A restore passes over it as well.
      if (!isDamage(error)) throw error;
    }
  }
  return null;
}

async function archivedEnd(context: Context, backup: BackupFacts, signal: AbortSignal): Promise<bigint> {
  const view = await openLogView(
    context.repository,
    {
      owner: { instance: context.instance, systemIdentifier: backup.systemIdentifier },
      segmentSize: backup.walSegmentSize,
      timeline: null,
      backupTimelines: [backup.timeline],
    },
    signal,
  );
  return view.end ?? parseLsn(backup.stopLsn);
}

/** What rewriting only the changed pages needs of the server's settings; the command itself asks for more. */
function whyNotRewind(live: LiveFacts | null): string | null {
  if (live === null) return 'the server does not answer';
  if (live.walLevel === 'minimal') return 'wal_level is minimal';
  if (live.checksums !== 'on' && live.hintsLogged !== 'on')
    return 'neither data checksums nor wal_log_hints are on';
  return null;
}
