import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { AppError, toErrorRecord } from '../../base/errors.ts';
import { counted, formatAge, formatBytes } from '../../base/sizes.ts';
import { queryRow, withConnection } from '../../engines/postgres/connection.ts';
import type { ConnectionSettings } from '../../engines/postgres/connection-target.ts';
import { readServerFacts, type ServerFacts } from '../../engines/postgres/server-facts.ts';
import { detectService } from '../../engines/postgres/service.ts';
import { shellCommand } from '../../engines/postgres/service-process.ts';
import { checkIdentity } from '../../repository/identity.ts';
import { probeStorage } from '../../repository/probe.ts';
import { readSlots } from '../../repository/repository.ts';
import { listBackups } from '../backup/list-backups.ts';
import type { InstanceContext } from '../instance-context.ts';
import { archivingOf, isStreamed } from '../server-picture.ts';

/** One thing that was looked at. */
export interface Finding {
  readonly check: string;
  readonly status: 'ok' | 'warning' | 'failed';
  /** What was found. */
  readonly detail: string;
  /** What to do about it; null when all is well. */
  readonly remedy: string | null;
}

export interface DoctorReport {
  readonly instance: string;
  readonly findings: readonly Finding[];
  readonly failed: number;
  readonly warnings: number;
}

const CLOCK_TOLERANCE_MS = 5000;
const ARCHIVE_LATE_MS = 15 * 60_000;
const BACKUP_OLD_MS = 25 * 3_600_000;
const SAFETY_DAYS = 7;

/**
 * Looks at everything that a recovery will depend on, changes nothing but a throwaway object in the storage, and goes on
 * after each problem, so that all are listed at once. `archiveSql` are the statements that turn archiving on.
 */
export async function doctor(
  context: InstanceContext,
  options: { readonly signal: AbortSignal; readonly archiveSql: (facts: ServerFacts) => readonly string[] },
): Promise<DoctorReport> {
  const findings: Finding[] = [];
  const { signal } = options;
  await look(findings, 'storage', async () => {
    await probeStorage(context.repository.storage);
    const free = await context.repository.storage.freeBytes?.();
    return ok(
      `${context.repository.storage.description}, writes are kept and never overwritten${free === undefined ? '' : `, ${formatBytes(free)} free`}`,
    );
  });
  await look(findings, 'keys', () => checkKeys(context, signal));
  const facts = await askServer(findings, context.connection, signal);
  if (facts !== null) {
    await look(findings, 'system', async () => {
      await checkIdentity(
        context.repository,
        { instance: context.instance, systemIdentifier: facts.systemIdentifier },
        { signal },
      );
      return ok(`system identifier ${facts.systemIdentifier} is known as '${context.instance}'`);
    });
    for (const check of [checkRights, checkArchiving(options.archiveSql), checkArchiver, checkSafetySettings])
      await look(findings, check.title, async () => check.run(facts));
    await look(findings, 'data directory', () =>
      checkDirectory(context.dataDirectory ?? facts.dataDirectory),
    );
    await look(findings, 'service', async () =>
      ok(
        `${(await detectService(facts.dataDirectory, { setting: context.service, binaries: context.binaries, serverAnswers: true })).description} stops and starts it`,
      ),
    );
    await look(findings, 'safety copies', () => checkSafetyCopies(facts.dataDirectory));
  }
  await look(findings, 'backups', () => checkBackups(context, signal));
  return {
    instance: context.instance,
    findings,
    failed: findings.filter(each => each.status === 'failed').length,
    warnings: findings.filter(each => each.status === 'warning').length,
  };
}

type Found = Omit<Finding, 'check'>;

interface FactsCheck {
  readonly title: string;
  readonly run: (facts: ServerFacts) => Found;
}

const ok = (detail: string): Found => ({ status: 'ok', detail, remedy: null });
const warning = (detail: string, remedy: string): Found => ({ status: 'warning', detail, remedy });
const failed = (detail: string, remedy: string): Found => ({ status: 'failed', detail, remedy });

async function look(findings: Finding[], check: string, work: () => Promise<Found>): Promise<void> {
  try {
    findings.push({ check, ...(await work()) });
  } catch (error) {
    // A mistake of the program and a cancelled run are not findings.
    if (!(error instanceof AppError)) throw error;
    const { message, hint } = toErrorRecord(error);
    findings.push({ check, ...failed(message, hint ?? 'See the message.') });
  }
}

async function checkKeys(context: InstanceContext, signal: AbortSignal): Promise<Found> {
  const { slots, problems } = await readSlots(context.repository.storage, { signal });
  const [problem] = problems;
  if (problem !== undefined) return failed(problem.message, problem.hint ?? 'Restore it from another copy.');
  const kinds = slots.map(slot => `${slot.kind} (${slot.label})`).join(', ');
  if (slots.length > 1) return ok(`${slots.length} key slots: ${kinds}`);
  return warning(
    `only one key slot: ${kinds}`,
    'If that key is lost, so is every backup. Keep a copy of it in another place.',
  );
}

async function askServer(
  findings: Finding[],
  connection: ConnectionSettings,
  signal: AbortSignal,
): Promise<ServerFacts | null> {
  let facts: ServerFacts | null = null;
  await look(findings, 'server', async () => {
    const { found: answer, ms } = await withConnection(connection, { signal }, async client => {
      const { ms } = await queryRow<{ ms: number }>(client, "read the server's clock", {
        text: 'select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms',
        signal,
      });
      return { found: await readServerFacts(client, signal), ms };
    });
    facts = answer;
    const offMs = Math.abs(ms - Date.now());
    const found = `PostgreSQL ${answer.version}, ${counted(answer.databases.length, 'database')}, ${answer.dataDirectory}`;
    return offMs <= CLOCK_TOLERANCE_MS
      ? ok(found)
      : warning(
          `${found}; its clock and this one differ by ${Math.round(offMs / 1000)}s`,
          "Points in time are given by the server's clock: synchronise both (chrony, systemd-timesyncd).",
        );
  });
  return facts;
}

const checkRights: FactsCheck = {
  title: 'rights',
  run: facts =>
    facts.userMayBackUp
      ? ok(`user '${facts.user}' may take backups`)
      : failed(
          `user '${facts.user}' may not take backups`,
          `As a superuser: GRANT EXECUTE ON FUNCTION ${facts.majorVersion >= 15 ? 'pg_backup_start, pg_backup_stop' : 'pg_start_backup(text, boolean, boolean), pg_stop_backup(boolean, boolean)'}, pg_switch_wal TO "${facts.user.replaceAll('"', '""')}".`,
        ),
};

const checkArchiving = (archiveSql: (facts: ServerFacts) => readonly string[]): FactsCheck => ({
  title: 'archiving',
  run: facts => {
    const state = archivingOf(facts);
    const remedy = `Run in psql: ${archiveSql(facts).join('; ')}${facts.archiveMode === 'off' ? '; then restart the server' : ''}.`;
    if (facts.walLevel === 'minimal')
      return failed(
        'wal_level is minimal: neither backups nor points in time are possible',
        "ALTER SYSTEM SET wal_level = 'replica'; then restart the server.",
      );
    if (isStreamed(facts)) return ok('the agent streams the log');
    if (state === 'off')
      return failed('archive_mode is off: only whole backups can be restored, no point in time', remedy);
    if (state === 'elsewhere')
      return failed(
        'archive_command does not call aishell: no point in time can be restored from this repository',
        remedy,
      );
    if (facts.archiveTimeoutSeconds === 0)
      return warning(
        'on, but archive_timeout is 0: on a quiet server the last transactions may stay out of the archive for hours',
        "ALTER SYSTEM SET archive_timeout = '60s'; SELECT pg_reload_conf().",
      );
    return ok(`on, at the latest every ${facts.archiveTimeoutSeconds}s`);
  },
});

const checkArchiver: FactsCheck = {
  title: 'archiver',
  run: ({ archiver, archiveMode }) => {
    if (archiveMode === 'off') return ok('nothing to archive');
    const { lastFailedTime, lastArchivedTime, lastFailedSegment, lastArchivedSegment } = archiver;
    if (lastFailedTime !== null && (lastArchivedTime === null || lastFailedTime > lastArchivedTime)) {
      return failed(
        `archive_command fails, last for ${lastFailedSegment} at ${lastFailedTime}`,
        "Its message stands in the server's log. Until it works, pg_wal grows and no later point in time can be reached.",
      );
    }
    if (lastArchivedTime === null)
      return warning(
        'nothing was archived yet',
        'Run `SELECT pg_switch_wal()`, wait a few seconds, and look again.',
      );
    const ageMs = Date.now() - Date.parse(lastArchivedTime);
    const found = `last ${lastArchivedSegment}, ${formatAge(ageMs)}`;
    return ageMs > ARCHIVE_LATE_MS
      ? warning(
          found,
          "Fine on a server without writes; otherwise look at pg_stat_archiver and the server's log.",
        )
      : ok(found);
  },
};

const checkSafetySettings: FactsCheck = {
  title: 'page safety',
  run: facts => {
    if (!facts.fullPageWrites)
      return failed(
        'full_page_writes is off: a crash can tear pages beyond repair',
        'ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf().',
      );
    if (!facts.dataChecksums)
      return warning(
        "page checksums are off: damage on the server's disk is not noticed",
        'Stop the server, run `pg_checksums --enable -D DATA_DIRECTORY`, start it.',
      );
    return ok('page checksums and full-page writes are on');
  },
};

async function checkDirectory(dataDirectory: string): Promise<Found> {
  const { uid } = await stat(join(dataDirectory, 'global', 'pg_control')).catch(
    (error: NodeJS.ErrnoException) => {
      throw new AppError('FILE_FAILED', `unable to read '${dataDirectory}': ${error.message}`, {
        hint: 'Run aishell on the database server, as the user the server runs as, or as root.',
      });
    },
  );
  const own = process.getuid?.();
  if (own === uid || own === 0) return ok(`${dataDirectory} can be read`);
  return failed(
    `${dataDirectory} belongs to user ${uid}, this is user ${own}`,
    'Run aishell as the user the server runs as (often postgres).',
  );
}

/** What earlier restores have put aside, and what removes it when it is old. */
export async function checkSafetyCopies(dataDirectory: string): Promise<Found> {
  const kept: string[] = [];
  // Beside the data directory; in it, where that is a mount point.
  for (const [directory, prefix] of [
    [dirname(dataDirectory), `${basename(dataDirectory)}.aishell-safety-`],
    [dataDirectory, 'aishell-safety-'],
  ] as const) {
    for (const name of await readdir(directory).catch(() => []))
      if (name.startsWith(prefix)) kept.push(join(directory, name));
  }
  if (kept.length === 0) return ok('none are kept');
  const old: string[] = [];
  for (const path of kept) {
    const { ctimeMs } = await stat(path);
    if (Date.now() - ctimeMs > SAFETY_DAYS * 86_400_000) old.push(path);
  }
  if (old.length === 0) return ok(`${kept.length} kept from restores of the last ${SAFETY_DAYS} days`);
  return warning(
    `${old.length} older than ${SAFETY_DAYS} days`,
    `When nobody needs the state from before the restore any more: ${shellCommand(['rm', '-rf', ...old])}`,
  );
}

async function checkBackups(context: InstanceContext, signal: AbortSignal): Promise<Found> {
  const { backups } = await listBackups(context, signal);
  const [newest] = backups.filter(each => each.backup !== null);
  const damaged = backups.filter(each => each.status === 'damaged');
  if (damaged.length > 0)
    return failed(
      `${damaged.length} of ${backups.length} are damaged: ${damaged.map(each => each.id).join(', ')}`,
      'Run `aishell backup verify --all`, and take a new one with `aishell backup create`.',
    );
  if (newest?.backup == null) return failed('there is none', 'Run `aishell backup create`.');
  const ageMs = Date.now() - Date.parse(newest.backup.stopTime);
  const found = `${backups.length}, the newest ${formatAge(ageMs)}`;
  return ageMs > BACKUP_OLD_MS
    ? warning(found, 'Run `aishell backup create`: the older the backup, the longer a recovery replays.')
    : ok(found);
}
