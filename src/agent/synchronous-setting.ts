import { existsSync, rmSync } from 'node:fs';
import { delay } from '../base/abort.ts';
import { AppError } from '../base/errors.ts';
import { readJsonFile, writeJsonFile } from '../base/json-file.ts';
import { queryRow, queryRows, type Session } from '../engines/postgres/connection.ts';
import { withoutStandby, withStandby } from './synchronous-names.ts';

export interface SynchronousPlace {
  /** What the receiver calls itself. */
  readonly name: string;
  /** Remembers what was changed on the server, for a later run should this one be killed. */
  readonly recordFile: string;
}

interface SettingRecord {
  /** What the setting was. */
  readonly previous: string;
  /** Whether ALTER SYSTEM had set it; else it comes back by removing ours. */
  readonly wasAltered: boolean;
  /** What it was changed to. */
  readonly ours: string;
}

const RELOAD_MS = 5000;

/** Whether an earlier run left its name in the setting. */
export function wasLeftIn({ recordFile }: SynchronousPlace): boolean {
  return existsSync(recordFile);
}

/**
 * From now on commits wait for the receiver of this name, besides those they waited for before.
 *
 * @throws UNSUPPORTED when the setting cannot require it; DATABASE_DENIED DATABASE_UNREACHABLE
 */
export async function putIn(client: Session, place: SynchronousPlace): Promise<void> {
  const { value, source } = await readSetting(client);
  const known = readJsonFile<SettingRecord>(place.recordFile);
  // Our name without a record of it is what an earlier run left there: it was not there before.
  const previous = known?.ours === value ? known.previous : withoutStandby(value, place.name);
  const ours = withStandby(previous, place.name);
  const wasAltered = known?.ours === value ? known.wasAltered : source === 'altered' && previous !== '';
  await writeJsonFile(place.recordFile, { previous, wasAltered, ours } satisfies SettingRecord);
  await alter(client, ours);
  if (await isReloaded(client, ours)) return;
  await alter(client, wasAltered ? previous : null);
  rmSync(place.recordFile, { force: true });
  throw new AppError(
    'UNSUPPORTED',
    'unable to make commits wait for the agent: the server does not take synchronous_standby_names from ALTER SYSTEM',
    { hint: 'It is set on the command line that starts the server, and that wins.' },
  );
}

/** Puts the setting back to what it was, unless somebody changed it since: then only our name goes. */
export async function takeOut(client: Session, place: SynchronousPlace): Promise<void> {
  const record = readJsonFile<SettingRecord>(place.recordFile);
  const { value } = await readSetting(client);
  if (record !== null && value === record.ours)
    await alter(client, record.wasAltered ? record.previous : null);
  else if (withoutStandby(value, place.name) !== value)
    await alter(client, withoutStandby(value, place.name));
  rmSync(place.recordFile, { force: true });
}

/**
 * Whether the name is in the setting. When it is not: `out` where the watchdog of an agent before this one took it out and
 * removed the record, `overruled` where somebody else did.
 */
export async function whereIs(client: Session, place: SynchronousPlace): Promise<'in' | 'out' | 'overruled'> {
  const { value } = await readSetting(client);
  if (withoutStandby(value, place.name) !== value) return 'in';
  if (!existsSync(place.recordFile)) return 'out';
  rmSync(place.recordFile, { force: true });
  return 'overruled';
}

async function readSetting(
  client: Session,
): Promise<{ readonly value: string; readonly source: 'altered' | 'other' }> {
  const row = await queryRow<{ setting: string; sourcefile: string | null }>(
    client,
    'read synchronous_standby_names',
    { text: `select setting, sourcefile from pg_settings where name = 'synchronous_standby_names'` },
  );
  const isAltered = row.sourcefile?.endsWith('/postgresql.auto.conf') === true;
  return { value: row.setting, source: isAltered ? 'altered' : 'other' };
}

/** ALTER SYSTEM writes a file and no log: it does not wait as commits do. */
async function alter(client: Session, value: string | null): Promise<void> {
  const doing = 'change synchronous_standby_names';
  const text =
    value === null
      ? 'alter system reset synchronous_standby_names'
      : `alter system set synchronous_standby_names = '${value.replaceAll("'", "''")}'`;
  try {
    await queryRows(client, doing, { text });
    await queryRows(client, doing, { text: 'select pg_reload_conf()' });
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'DATABASE_DENIED') throw error;
    const user = client.user ?? 'aishell';
    throw new AppError(error.code, error.message, {
      hint: `Connect as a superuser, or (from PostgreSQL 15 on): GRANT ALTER SYSTEM ON PARAMETER synchronous_standby_names TO "${user}"; GRANT EXECUTE ON FUNCTION pg_reload_conf() TO "${user}";`,
      cause: error,
    });
  }
}

async function isReloaded(client: Session, value: string): Promise<boolean> {
  const giveUpMs = performance.now() + RELOAD_MS;
  while ((await readSetting(client)).value !== value) {
    if (performance.now() > giveUpMs) return false;
    await delay(50);
  }
  return true;
}
