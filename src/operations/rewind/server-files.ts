import { type Dirent, lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileError, systemCode } from '../../base/errors.ts';
import { livePlace, type Places, SAFETY_PREFIX } from './places.ts';

/** The files and directories of a data directory that belong to the server alone, by their paths in it. */
export interface ServerFiles {
  readonly files: Map<string, { readonly sizeBytes: number; readonly mode: number }>;
  /** Parents before what is in them. */
  readonly directories: Map<string, { readonly mode: number }>;
  /** Symbolic links among them, which PostgreSQL does not make: what they lead to is not listed. */
  readonly links: string[];
}

/**
 * What the server makes and reads by itself. Everything else (settings, keys, logs, whatever somebody has put there) is no
 * part of a rewind and stays as it is. `pg_wal` is apart.
 */
const SERVER_DIRECTORIES = [
  'base',
  'global',
  'pg_commit_ts',
  'pg_dynshmem',
  'pg_logical',
  'pg_multixact',
  'pg_notify',
  'pg_replslot',
  'pg_serial',
  'pg_snapshots',
  'pg_stat',
  'pg_stat_tmp',
  'pg_subtrans',
  'pg_twophase',
  'pg_xact',
];

/** Files of the top directory that say in which state the rest is. */
const STATE_FILES = [
  'backup_label',
  'backup_label.old',
  'tablespace_map',
  'tablespace_map.old',
  'recovery.signal',
  'standby.signal',
  'promote',
  'postmaster.opts',
  'postgresql.auto.conf',
];

/** Whether a path is of what {@link listServerFiles} lists. */
export function isServerFile(path: string): boolean {
  const slash = path.indexOf('/');
  const top = slash < 0 ? path : path.slice(0, slash);
  return slash < 0 ? STATE_FILES.includes(path) : top === 'pg_tblspc' || SERVER_DIRECTORIES.includes(top);
}

/** Lists them as they are. A server must not run there. Calls are synchronous: of 100,000 files it takes half the time. */
export function listServerFiles(places: Places, tablespaceVersionDirectory: string): ServerFiles {
  const found: ServerFiles = { files: new Map(), directories: new Map(), links: [] };
  for (const path of STATE_FILES) addFile(found, places, path);
  for (const path of SERVER_DIRECTORIES) listInto(found, places, path);
  for (const name of namesIn(join(places.dataDirectory, 'pg_tblspc')) ?? []) {
    if (/^\d+$/.test(name)) listInto(found, places, `pg_tblspc/${name}/${tablespaceVersionDirectory}`);
  }
  return found;
}

/** The files of `pg_wal`, its folders' included. */
export function listLogDirectory(places: Places): ServerFiles {
  const found: ServerFiles = { files: new Map(), directories: new Map(), links: [] };
  listInto(found, places, 'pg_wal');
  return found;
}

function listInto(found: ServerFiles, places: Places, path: string): void {
  const place = livePlace(places, path);
  const entries = entriesIn(place);
  if (entries === null) return;
  found.directories.set(path, { mode: lstatSync(place).mode & 0o7777 });
  for (const entry of entries) {
    const own = `${path}/${entry.name}`;
    if (entry.name.startsWith(SAFETY_PREFIX)) continue;
    if (entry.isFile()) addFile(found, places, own);
    else if (entry.isDirectory()) listInto(found, places, own);
    else if (entry.isSymbolicLink()) found.links.push(own);
  }
}

function addFile(found: ServerFiles, places: Places, path: string): void {
  const stats = lstatSync(livePlace(places, path), { throwIfNoEntry: false });
  if (stats?.isFile() === true) found.files.set(path, { sizeBytes: stats.size, mode: stats.mode & 0o7777 });
}

function entriesIn(directory: string): Dirent[] | null {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw fileError('list', directory, error);
  }
}

function namesIn(directory: string): string[] | null {
  return entriesIn(directory)?.map(entry => entry.name) ?? null;
}
