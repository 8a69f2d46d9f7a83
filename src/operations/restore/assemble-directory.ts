import {
  chmod,
  chown,
  lchown,
  mkdir,
  readdir,
  readFile,
  rm,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { fileError } from '../../base/errors.ts';
import type { ControlFile } from '../../engines/postgres/control-file.ts';
import { classifyLogFileName, segmentStart } from '../../engines/postgres/lsn.ts';
import {
  formatTablespaceMap,
  neutraliseConfiguration,
  parseTablespaceMap,
  type Settings,
  settingLine,
  stripSettingsBlock,
} from '../../engines/postgres/recovery-settings.ts';
import type { BackupFacts } from '../../repository/manifest.ts';
import { isInside } from '../backup/config-files.ts';
import { COPY_MARKER } from '../log/archive-segment.ts';
import type { Owner } from './new-files.ts';

/** Where the configuration files that lay outside the data directory are put while restoring. */
export const CONFIG_FOLDER = 'aishell-config';
/** Whoever starts the directory before its recovery is told that it cannot be, for want of a restore_command. */
const RECOVERY_SIGNAL = 'recovery.signal';

/** Where everything of a restore goes. */
export interface Layout {
  readonly dataDirectory: string;
  /** By tablespace oid: the directory that holds the version directory. */
  readonly tablespaces: ReadonlyMap<number, string>;
}

/** The place of a manifest's path. */
export function placeOf(layout: Layout, path: string): string | null {
  const match = /^pg_tblspc\/(\d+)(\/.*)?$/.exec(path);
  const tablespace = match === null ? undefined : layout.tablespaces.get(Number(match[1]));
  if (match === null || tablespace === undefined) return join(layout.dataDirectory, path);
  return match[2] === undefined ? null : join(tablespace, match[2]);
}

/** Makes a restored directory ready to recover: tablespaces where they are now, the signal, no settings of the origin. */
export async function prepareRecovery(layout: Layout, backup: BackupFacts, owner: Owner): Promise<void> {
  const { dataDirectory } = layout;
  const map = join(dataDirectory, 'tablespace_map');
  if (backup.tablespaces.length > 0) {
    const entries = parseTablespaceMap(await readFile(map, 'utf8')).map(entry => ({
      ...entry,
      path: layout.tablespaces.get(entry.oid) ?? entry.path,
    }));
    await writeOwned(map, formatTablespaceMap(entries), owner);
  }
  await writeOwned(join(dataDirectory, RECOVERY_SIGNAL), '', owner);
  // The isolated server takes its settings from its command line; what came along could name production's places.
  const auto = join(dataDirectory, 'postgresql.auto.conf');
  await writeOwned(`${auto}.restored`, await readText(auto), owner);
  await writeOwned(auto, '', owner);
  await makeOwned(join(dataDirectory, 'pg_wal', 'archive_status'), owner);
}

/**
 * After the recovery: the settings of the backup are back, and the log is as {@link finishLog} leaves it.
 */
export async function finishRecovery(
  layout: Layout,
  control: Pick<ControlFile, 'checkpoint' | 'walSegmentSize'>,
): Promise<{ readonly newLogFiles: readonly string[] }> {
  const { dataDirectory } = layout;
  const auto = join(dataDirectory, 'postgresql.auto.conf');
  const text = stripSettingsBlock(await readText(`${auto}.restored`));
  await writeFile(auto, text);
  await rm(`${auto}.restored`, { force: true });
  return await finishLog(join(dataDirectory, 'pg_wal'), control);
}

/**
 * After a recovery: the log of the timelines before is gone from `pg_wal`.
 *
 * @returns the files of the new timeline that are complete: its history, and segments before the one it ended in; those
 * behind are old files under new names, kept by the server for later
 */
export async function finishLog(
  directory: string,
  control: Pick<ControlFile, 'checkpoint' | 'walSegmentSize'>,
): Promise<{ readonly newLogFiles: readonly string[] }> {
  const newLogFiles: string[] = [];
  for (const name of await readdir(directory)) {
    const kind = classifyLogFileName(name, control.walSegmentSize);
    if (kind === null) continue;
    const { timeline, lsn } = control.checkpoint;
    // After a clean stop the server needs nothing from before; left here, it would be archived a second time.
    if (kind.timeline < timeline && kind.kind !== 'history') await unlink(join(directory, name));
    else if (kind.timeline === timeline && (kind.lsn ?? 0n) < segmentStart(lsn, control.walSegmentSize))
      newLogFiles.push(name);
  }
  return { newLogFiles };
}

/** Tells the server's archiver which files of the new timeline to hand to archive_command, from its first byte on. */
export async function markForArchiving(
  dataDirectory: string,
  names: readonly string[],
  owner: Owner,
): Promise<void> {
  for (const name of names)
    await writeOwned(join(dataDirectory, 'pg_wal', 'archive_status', `${name}.ready`), '', owner);
}

/**
 * Makes a recovered directory a copy that stands on its own and leaves its origin alone: marked, archiving off, its
 * configuration inside it, on a port of its own.
 */
export async function makeCopy(
  layout: Layout,
  facts: {
    readonly backup: BackupFacts;
    readonly settings: Settings;
    readonly owner: Owner;
    readonly restoredAt: string;
  },
): Promise<void> {
  const { dataDirectory } = layout;
  const { owner, backup } = facts;
  const marker = {
    instance: backup.instance,
    backup: backup.id,
    systemIdentifier: backup.systemIdentifier,
    restoredAt: facts.restoredAt,
  };
  await writeOwned(join(dataDirectory, COPY_MARKER), `${JSON.stringify(marker, null, 2)}\n`, owner);
  const folder = join(dataDirectory, CONFIG_FOLDER);
  const kept = await listFiles(folder);
  for (const path of kept) {
    const target = join(dataDirectory, path);
    const text = await readFile(join(folder, path), 'utf8');
    await makeOwned(dirname(target), owner);
    const content =
      path.endsWith('.conf') && !path.startsWith('pg_')
        ? neutraliseConfiguration(text, include =>
            kept.some(each => each.startsWith(include.replace(/\/$/, ''))),
          )
        : text;
    await writeOwned(target, content, owner);
  }
  for (const [name, content] of [
    ['postgresql.conf', ''],
    ['pg_hba.conf', 'local all all peer\n'],
    ['pg_ident.conf', ''],
  ] as const) {
    if ((await readText(join(dataDirectory, name), null)) === null)
      await writeOwned(join(dataDirectory, name), content, owner);
  }
  const conf = join(dataDirectory, 'postgresql.conf');
  await writeOwned(
    conf,
    neutraliseConfiguration(
      await readText(conf),
      include => isInside(dataDirectory, join(dataDirectory, include)) && !isAbsolute(include),
    ),
    owner,
  );
  const lines = Object.entries(facts.settings).map(([name, value]) => settingLine(name, value));
  const auto = join(dataDirectory, 'postgresql.auto.conf');
  await writeOwned(
    auto,
    `${await readText(auto)}# aishell: this is a restored copy; these keep it from touching its origin\n${lines.join('\n')}\n`,
    owner,
  );
}

/** The configuration files as they were, for a restore in place, where the live ones stay. */
export async function dropConfigFolder(dataDirectory: string): Promise<void> {
  await rm(join(dataDirectory, CONFIG_FOLDER), { recursive: true, force: true });
}

/** Points the links of tablespaces at other places. */
export async function relinkTablespaces(
  dataDirectory: string,
  places: ReadonlyMap<number, string>,
  owner: Owner,
): Promise<void> {
  for (const [oid, place] of places) {
    const link = join(dataDirectory, 'pg_tblspc', String(oid));
    await rm(link, { force: true });
    await symlink(place, link);
    if (owner !== null) await lchown(link, owner.uid, owner.gid);
  }
}

/** Creates a directory, belonging to `owner`, with closed access. */
export async function makeOwned(path: string, owner: Owner): Promise<void> {
  try {
    const made = await mkdir(path, { recursive: true, mode: 0o700 });
    if (made !== undefined && owner !== null) await chown(path, owner.uid, owner.gid);
  } catch (error) {
    throw fileError('create', path, error);
  }
}

export async function writeOwned(path: string, content: string, owner: Owner): Promise<void> {
  try {
    await writeFile(path, content, { mode: 0o600 });
    await chmod(path, 0o600);
    if (owner !== null) await chown(path, owner.uid, owner.gid);
  } catch (error) {
    throw fileError('write', path, error);
  }
}

async function readText(path: string): Promise<string>;
async function readText(path: string, absent: null): Promise<string | null>;
async function readText(path: string, absent: null | string = ''): Promise<string | null> {
  return readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return absent;
    throw fileError('read', path, error);
  });
}

async function listFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name).slice(folder.length + 1));
}
