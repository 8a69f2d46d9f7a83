import { AppError } from '../../base/errors.ts';
import {
  type DatabaseChange,
  type FileSettings,
  type RoleSettingChange,
  readFileSettings,
  type ServerChange,
  type SettingChange,
  stateOf,
} from '../../engines/postgres/write-controls.ts';
import { readDatabaseEntries } from '../../engines/postgres/write-facts.ts';
import {
  type PreparedTransaction,
  readPrepared,
  readSessions,
  type SessionFacts,
} from '../../engines/postgres/write-sessions.ts';
import type { ControlSession } from './control-session.ts';
import type { EmergencyContext } from './emergency-context.ts';
import { findLocalServer, type LocalServer, planStrict } from './plan-strict.ts';
import { type Change, mergeChanges, type StopLevel, type StopRecord } from './stop-record.ts';

export const READ_ONLY = 'default_transaction_read_only';
export const AUTOVACUUM = 'autovacuum';

/** What is going to be changed, and what is going on. */
export interface StopPlan {
  readonly instance: string;
  readonly level: StopLevel;
  readonly serverVersion: string;
  readonly systemIdentifier: string;
  /** Stays open for this program; at level hard to superusers alone. */
  readonly controlDatabase: string;
  /** Every change, those of an earlier stop included. */
  readonly changes: readonly Change[];
  /** All sessions are ended, not only those that could write: a setting of theirs would go on to count. */
  readonly endsAllSessions: boolean;
  /** Null at level soft, which does not take the time, unless it is a dry run. */
  readonly sessions: { readonly total: number; readonly inTransaction: readonly SessionFacts[] } | null;
  readonly prepared: readonly PreparedTransaction[];
  /** Emptied by the restart of level strict. */
  readonly unlogged: readonly string[];
  /** How the server is restarted at level strict. */
  readonly service: string | null;
  readonly warnings: readonly string[];
}

/**
 * Reads what a stop would change. Nothing is changed yet; what stands in its way is refused here.
 *
 * @param known the stop that is in force, whose records of how things were are kept
 * @throws STOP_REFUSED DATABASE_DENIED SERVICE_UNKNOWN FILE_FAILED
 */
export async function planStop(
  context: EmergencyContext,
  control: ControlSession,
  request: { readonly level: StopLevel; readonly known: StopRecord | null; readonly dryRun: boolean },
): Promise<{ readonly plan: StopPlan; readonly local: LocalServer | null }> {
  const { level, known } = request;
  const { client, facts } = control;
  refuseForRights(control, level);
  const files = await readFileSettings(client);
  const readOnly = await planReadOnly(control, files);
  const warnings = [...readOnly.warnings];
  const changes: Change[] = [...readOnly.changes];
  if (facts.superuser) changes.push(...planSubscriptions(control));
  if (level === 'hard') changes.push(...(await planDatabases(control)));
  let local: LocalServer | null = null;
  let unlogged: readonly string[] = [];
  if (level === 'strict') {
    local = await findLocalServer(context, facts);
    const strict = await planStrict(control, local, { files, known });
    changes.push(...strict.settings, { kind: 'standby-signal', dataDirectory: local.dataDirectory });
    unlogged = strict.unlogged;
    warnings.push(...strict.warnings);
  }
  const { maintenanceFile } = context.settings;
  if (maintenanceFile !== null) changes.push({ kind: 'maintenance-file', path: maintenanceFile });
  const shown = level !== 'soft' || request.dryRun;
  const plan: StopPlan = {
    instance: context.instance,
    level,
    serverVersion: facts.version,
    systemIdentifier: facts.systemIdentifier,
    controlDatabase: facts.database,
    changes: mergeChanges(known?.changes ?? [], changes),
    // A stop that was cut short may have changed a role's setting and not yet ended its sessions.
    endsAllSessions:
      readOnly.endsAllSessions || known?.changes.some(change => change.kind === 'role-setting') === true,
    sessions: shown ? await readSessions(client) : null,
    prepared: shown ? await readPrepared(client) : [],
    unlogged,
    service: local?.service.description ?? null,
    warnings,
  };
  return { plan, local };
}

function refuseForRights({ facts }: ControlSession, level: StopLevel): void {
  if (facts.superuser) return;
  const user = facts.user;
  if (level !== 'soft') {
    throw new AppError(
      'DATABASE_DENIED',
      `unable to stop writes at level ${level}: '${user}' is not a superuser`,
      {
        hint: `ALTER ROLE "${user.replaceAll('"', '""')}" SUPERUSER; or connect as a superuser, or use --level soft.`,
      },
    );
  }
  if (facts.missingGrants.length === 0) return;
  throw new AppError('DATABASE_DENIED', `unable to stop writes: rights of '${user}' are missing`, {
    hint: `Nothing was changed. As a superuser: ${facts.missingGrants.join(' ')}`,
    details: { missing: facts.missingGrants },
  });
}

interface ReadOnlyPlan {
  readonly changes: readonly ServerChange[];
  readonly endsAllSessions: boolean;
  readonly warnings: readonly string[];
}

/**
 * The server's default is made read-only in its configuration, which reaches every session. Where that cannot work, it is
 * set for all roles instead, which counts for sessions that begin later: then all are ended.
 */
async function planReadOnly(control: ControlSession, { auto, errors }: FileSettings): Promise<ReadOnlyPlan> {
  const { facts } = control;
  const { overrides } = facts;
  if (!facts.superuser) {
    const names = overrides.map(({ role, database }) => role ?? database ?? 'all roles').join(', ');
    return {
      changes: [settingChange(auto, READ_ONLY, 'on')],
      endsAllSessions: false,
      warnings:
        overrides.length === 0
          ? []
          : [`only a superuser could stop these, whose own setting counts: ${names}`],
    };
  }
  const changes: ServerChange[] = overrides.map(({ role, database, value }) =>
    roleChange({ role, database, before: value }),
  );
  const byConfiguration = facts.alterSystemAllowed && !facts.readOnlyOnCommandLine && errors.length === 0;
  if (byConfiguration) {
    changes.push(settingChange(auto, READ_ONLY, 'on'), settingChange(auto, AUTOVACUUM, 'off'));
  } else if (!overrides.some(({ role, database }) => role === null && database === null)) {
    changes.push(await allRolesChange(control));
  }
  const why = errors[0] ?? (facts.alterSystemAllowed ? 'its command line' : 'allow_alter_system');
  return {
    changes,
    endsAllSessions: !byConfiguration || overrides.length > 0,
    warnings: byConfiguration
      ? []
      : [
          `the server's configuration cannot be changed (${why}): all roles are made read-only, and all sessions are ended`,
        ],
  };
}

function settingChange(
  autoSettings: ReadonlyMap<string, string>,
  name: string,
  during: string,
): SettingChange {
  return { kind: 'setting', name, before: autoSettings.get(name) ?? null, during };
}

function roleChange(of: {
  readonly role: string | null;
  readonly database: string | null;
  readonly before: string | null;
}): RoleSettingChange {
  return {
    kind: 'role-setting',
    role: of.role,
    database: of.database,
    name: READ_ONLY,
    before: of.before,
    during: 'on',
  };
}

async function allRolesChange({ client }: ControlSession): Promise<RoleSettingChange> {
  const change = roleChange({ role: null, database: null, before: null });
  // Set to on already, by somebody: then that is how it was.
  return (await stateOf(client, change)) === 'during' ? { ...change, before: 'on' } : change;
}

function planSubscriptions({ facts }: ControlSession): ServerChange[] {
  return facts.subscriptions.map(({ database, name }) => ({
    kind: 'subscription',
    database,
    name,
    before: 'enabled',
    during: 'disabled',
  }));
}

/** All databases are closed but the one that this program needs; there nobody but superusers gets in. */
async function planDatabases({ client, facts }: ControlSession): Promise<DatabaseChange[]> {
  return (await readDatabaseEntries(client)).flatMap(({ oid, name, allowConnections, connectionLimit }) => {
    if (!allowConnections) return [];
    const before = { allowConnections, connectionLimit };
    const during =
      name === facts.database
        ? { allowConnections, connectionLimit: 0 }
        : { allowConnections: false, connectionLimit };
    return [{ kind: 'database' as const, oid, name, before, during }];
  });
}
