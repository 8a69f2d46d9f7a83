import { AppError, messageOf } from '../../base/errors.ts';
import { readControlFile } from '../../engines/postgres/control-file.ts';
import { inspectDataDirectory } from '../../engines/postgres/data-directory.ts';
import { detectService } from '../../engines/postgres/service.ts';
import type { Service } from '../../engines/postgres/service-contract.ts';
import { actAs, ownerOf } from '../../engines/postgres/service-process.ts';
import { foreignSignal } from '../../engines/postgres/standby-signal.ts';
import { databasesWithUnlogged, readUnloggedTables } from '../../engines/postgres/unlogged-tables.ts';
import type { FileSettings, SettingChange } from '../../engines/postgres/write-controls.ts';
import { readDatabaseEntries, readNextSettings } from '../../engines/postgres/write-facts.ts';
import { readWatchers } from '../../engines/postgres/write-sessions.ts';
import type { ControlSession } from './control-session.ts';
import type { EmergencyContext } from './emergency-context.ts';
import { type StopRecord, stopMark } from './stop-record.ts';

/** A server whose files and service are in reach. */
export interface LocalServer {
  readonly dataDirectory: string;
  readonly service: Service;
}

/**
 * What these must be while the server is in recovery mode. A server that was a standby once, or was recovered, may still
 * have the settings of that time: it would follow another server, fetch log from an archive, stop at an old target, or
 * remove archived log.
 */
const quietRecovery: Readonly<Record<string, string>> = {
  hot_standby: 'on',
  primary_conninfo: '',
  primary_slot_name: '',
  restore_command: '',
  archive_cleanup_command: '',
  recovery_end_command: '',
  recovery_min_apply_delay: '0',
  recovery_target: '',
  recovery_target_lsn: '',
  recovery_target_name: '',
  recovery_target_time: '',
  recovery_target_timeline: 'current',
  recovery_target_xid: '',
  promote_trigger_file: '',
  sync_replication_slots: 'off',
};

/** A standby refuses to start with less of these than the log was written with. @source PostgreSQL manual, "Administrator's Overview" of hot standby */
const neverLess = [
  'max_connections',
  'max_locks_per_transaction',
  'max_prepared_transactions',
  'max_wal_senders',
  'max_worker_processes',
  'wal_level',
];

/** Finds the files and the service of the server, which must run on this machine. @throws STOP_REFUSED SERVICE_UNKNOWN PROGRAM_NOT_FOUND FILE_FAILED */
export async function findLocalServer(
  context: EmergencyContext,
  server: { readonly dataDirectory: string | null; readonly systemIdentifier: string },
): Promise<LocalServer> {
  const directory = context.dataDirectory ?? server.dataDirectory;
  if (directory === null) {
    throw refused(
      "the server's data directory is not known",
      'Set `data_directory` of the instance in aishell.yaml.',
    );
  }
  const { path } = await inspectDataDirectory(directory).catch((error: unknown) => {
    throw refused(
      `the data directory '${directory}' is not in reach (${messageOf(error)})`,
      'Run it on the machine of the server, as the owner of that directory or as root.',
    );
  });
  const control = await readControlFile(path);
  if (control.systemIdentifier !== server.systemIdentifier) {
    throw new AppError('SYSTEM_MISMATCH', `the server that answers is not the one of '${path}'`, {
      hint: 'Run it on the machine of the server, or check `connection` and `data_directory` of the instance.',
    });
  }
  // Refuses early what would fail half way: another user's server.
  actAs(await ownerOf(path), path);
  const service = await detectService(path, {
    setting: context.service,
    binaries: context.binaries,
    serverAnswers: true,
  });
  return { dataDirectory: path, service };
}

/** What level strict changes beside the others, and what has to be known of it. */
export interface StrictPlan {
  readonly settings: readonly SettingChange[];
  /** Unlogged tables that hold something: a restart into recovery empties them. */
  readonly unlogged: readonly string[];
  readonly warnings: readonly string[];
}

/** @throws STOP_REFUSED */
export async function planStrict(
  control: ControlSession,
  local: LocalServer,
  { files, known }: { readonly files: FileSettings; readonly known: StopRecord | null },
): Promise<StrictPlan> {
  const { client } = control;
  refuseUnfit(control, files);
  const signal = await foreignSignal(local.dataDirectory, known === null ? null : stopMark(known));
  if (signal !== null) {
    throw refused(
      `there is a '${signal}' that is not of this stop`,
      'Find out who wants this server to recover when it is restarted; remove the file if nobody does.',
    );
  }
  const settings: SettingChange[] = [];
  for (const { name, next, fixed } of await readNextSettings(client, Object.keys(quietRecovery))) {
    const during = quietRecovery[name]!;
    if (
      (next ?? '') === during ||
      (name === 'hot_standby' && isOn(next)) ||
      (during === 'off' && !isOn(next))
    )
      continue;
    if (fixed) {
      throw refused(
        `'${name}' is set on the server's command line, where nothing overrules it`,
        'Take it off the command line, or use --level hard.',
      );
    }
    settings.push({ kind: 'setting', name, before: files.auto.get(name) ?? null, during });
  }
  return {
    settings,
    unlogged: await findUnlogged(control, local.dataDirectory),
    warnings: await warningsOf(control, files),
  };
}

function refuseUnfit({ facts }: ControlSession, files: FileSettings): void {
  if (facts.walLevel === 'minimal') {
    throw refused('wal_level is minimal, and a standby needs replica', 'Use --level hard.');
  }
  if (files.errors.length > 0) {
    throw refused(
      `the server could not be restarted: ${files.errors[0]}`,
      'Correct its configuration, or use --level hard.',
    );
  }
  const pending = files.pending.filter(name => neverLess.includes(name));
  if (pending.length > 0) {
    throw refused(
      `${pending.join(', ')} would change with a restart, and a server in recovery may refuse to start then`,
      'Put the setting back to what the running server has, or use --level hard.',
    );
  }
}

async function warningsOf({ client }: ControlSession, { pending }: FileSettings): Promise<string[]> {
  const warnings: string[] = [];
  if (pending.length > 0)
    warnings.push(`the restart will also apply what waits for one: ${pending.join(', ')}`);
  for (const { application, ours } of await readWatchers(client)) {
    warnings.push(
      ours
        ? `the session '${application}' holds a snapshot that a restart will end: rows that only it still sees are lost`
        : `'${application}' watches this server: it may answer the restart with a failover, so pause it first`,
    );
  }
  return warnings;
}

async function findUnlogged(control: ControlSession, dataDirectory: string): Promise<string[]> {
  const oids = await databasesWithUnlogged(dataDirectory);
  if (oids.size === 0) return [];
  const found: string[] = [];
  for (const { oid, name } of await readDatabaseEntries(control.client)) {
    if (!oids.has(oid)) continue;
    try {
      const client = name === control.facts.database ? control.client : await control.open('look', name);
      found.push(...(await readUnloggedTables(client)));
      if (client !== control.client) await client.end();
    } catch {
      found.push(`database ${name} (its tables cannot be listed)`);
    }
  }
  return found;
}

function isOn(value: string | null): boolean {
  return /^(on|true|yes|1|t|y)$/i.test(value ?? '');
}

function refused(why: string, hint: string): AppError {
  return new AppError('STOP_REFUSED', `unable to stop writes at level strict: ${why}`, {
    hint: `Nothing was changed. ${hint}`,
  });
}
