import { lstatSync, type Stats } from 'node:fs';
import { lstat, readdir, readlink, realpath, stat } from 'node:fs/promises';
import { isAbsolute, join, relative } from 'node:path';
import { assert, fileError, systemCode } from '../../base/errors.ts';
import { parseRelationFile, type RelationFile, relationOf, temporaryRelation } from './data-files-names.ts';

export interface DataDirectoryEntry {
  readonly kind: 'directory';
  /** Relative to the data directory, `/` between. */
  readonly path: string;
  readonly mode: number;
}

export interface DataFileEntry {
  readonly kind: 'file';
  readonly path: string;
  /** Where it is to be read. */
  readonly source: string;
  readonly sizeBytes: number;
  readonly mode: number;
  /** Null for a file that does not consist of a relation's pages. */
  readonly relation: RelationFile | null;
}

/** What is in a data directory, and is not listed with what it holds. */
export interface PassedOverEntry {
  readonly kind: 'passed over';
  readonly path: string;
  /** As the end of a sentence that begins with its path. */
  readonly why: string;
  /** True: it is, or leads to, files of the database itself, of which nothing may be missing. */
  readonly isDatabase: boolean;
}

export type DataEntry = DataDirectoryEntry | DataFileEntry | PassedOverEntry;

export interface ListOptions {
  /** From the server's facts: the directory of this version within each tablespace, as `PG_18_202506291`. */
  readonly tablespaceVersionDirectory: string;
  readonly relationSegmentBlocks: number;
  /** The setting log_directory; when it lies within the data directory, its content is left out. */
  readonly logDirectory?: string;
  /**
   * True: the directory was listed just now, so its facts are in the kernel's memory. Asking there takes a twentieth of what
   * handing each question to another thread does, which is right for a disk.
   */
  readonly isFresh?: boolean;
  readonly signal?: AbortSignal;
}

/** Emptied by the server as it starts, or worthless in a copy. @source basebackup.c, excludeDirContents */
const emptied = new Set([
  'pg_dynshmem',
  'pg_notify',
  'pg_replslot',
  'pg_serial',
  'pg_snapshots',
  'pg_stat_tmp',
  'pg_subtrans',
]);

/** Left out of the top directory. pg_control is the caller's to copy last. @source basebackup.c, excludeFiles */
const leftOut = new Set([
  'backup_label',
  'backup_label.old',
  'tablespace_map',
  'tablespace_map.old',
  'backup_manifest',
  'current_logfiles',
  'current_logfiles.tmp',
  'postgresql.auto.conf.tmp',
  'postmaster.opts',
  'postmaster.pid',
  'recovery.signal',
  'standby.signal',
  'global/pg_control',
  'lost+found',
]);

/** Directories of the database itself: no name of a setting's file, `pg_hba.conf`, is like these. */
const ownDirectory = /^(base|global|pg_(?!log(\/|$))[a-z_]+)(\/|$)/;

/** How many files are asked about at once. */
const STAT_BATCH = 64;

/**
 * Lists what a physical backup of a data directory consists of, each directory before what is in it, tablespaces under
 * `pg_tblspc/<oid>/<version>/…`. Left out are the log itself, what the server makes anew, temporary files and tables,
 * every fork of an unlogged relation but its empty one, and global/pg_control, which must be copied last. A file may
 * vanish or change its size while the server works. No more than one directory's names are held in memory. A symbolic link
 * to a file that is none of the database's own, as of a setting or a key, is listed as the file.
 *
 * @throws FILE_FAILED; the signal's reason when cancelled
 */
export async function* listDataFiles(dataDirectory: string, options: ListOptions): AsyncGenerator<DataEntry> {
  const walk = await startWalk(dataDirectory, options);
  yield* listDirectory(walk, '', dataDirectory);
}

interface Walk {
  readonly options: ListOptions;
  /** Relative to the data directory; null when it lies elsewhere. */
  readonly logDirectory: string | null;
  /** Where the tablespaces lie: one that lies within the data directory is not listed twice. */
  readonly tablespaces: ReadonlySet<string>;
  /** Of the data directory. */
  readonly owner: { readonly uid: number; readonly gid: number };
}

async function startWalk(dataDirectory: string, options: ListOptions): Promise<Walk> {
  assert(isAbsolute(dataDirectory), `the data directory '${dataDirectory}' must be an absolute path`);
  const { logDirectory } = options;
  const within =
    logDirectory === undefined ? '' : relative(dataDirectory, absolute(dataDirectory, logDirectory));
  // Not even a strange setting may leave out the database itself.
  const inside = within !== '' && !within.startsWith('..') && !/^(base|global|pg_(?!log))/.test(within);
  const tablespaces = new Set<string>();
  for (const oid of (await namesIn(join(dataDirectory, 'pg_tblspc'))) ?? []) {
    const place = await realpath(join(dataDirectory, 'pg_tblspc', oid)).catch(() => null);
    if (place !== null) tablespaces.add(place);
  }
  const owner = await stat(dataDirectory).catch((error: unknown) => {
    throw fileError('list', dataDirectory, error);
  });
  return { options, logDirectory: inside ? within : null, tablespaces, owner };
}

function absolute(base: string, path: string): string {
  return isAbsolute(path) ? path : join(base, path);
}

async function* listDirectory(walk: Walk, path: string, source: string): AsyncGenerator<DataEntry> {
  const directories: string[] = [];
  for await (const [name, stats] of entriesOf(walk, path, source)) {
    const entryPath = path === '' ? name : `${path}/${name}`;
    const entrySource = join(source, name);
    if (stats === 'strange') {
      yield {
        kind: 'passed over',
        path: entryPath,
        why: 'has a name that cannot be kept',
        isDatabase: false,
      };
    } else if (stats.isFile()) {
      yield fileEntry(walk, entryPath, entrySource, stats);
    } else if (stats.isSymbolicLink()) {
      yield* listLink(walk, entryPath, entrySource);
    } else if (stats.isDirectory() && !(await isTablespace(walk, entryPath, entrySource))) {
      yield { kind: 'directory', path: entryPath, mode: stats.mode & 0o7777 };
      directories.push(name);
    }
    // Sockets, pipes and devices are no part of a database.
  }
  for (const name of directories) {
    const entryPath = path === '' ? name : `${path}/${name}`;
    if (entryPath === 'pg_wal') yield* emptyLogDirectory(0o700);
    else if (!isEmptied(walk, entryPath)) yield* listDirectory(walk, entryPath, join(source, name));
  }
}

function isEmptied(walk: Walk, path: string): boolean {
  return emptied.has(path) || path === walk.logDirectory;
}

async function isTablespace(walk: Walk, path: string, source: string): Promise<boolean> {
  if (path.startsWith('pg_tblspc/')) return false;
  return walk.tablespaces.size > 0 && walk.tablespaces.has(await realpath(source).catch(() => source));
}

function* emptyLogDirectory(mode: number): Generator<DataEntry> {
  yield { kind: 'directory', path: 'pg_wal/archive_status', mode };
}

/** PostgreSQL's own links: pg_wal, the tablespaces, and whichever of the emptied directories was moved elsewhere. */
async function* listLink(walk: Walk, path: string, source: string): AsyncGenerator<DataEntry> {
  if (path === 'pg_wal' || isEmptied(walk, path)) {
    yield { kind: 'directory', path, mode: 0o700 };
    if (path === 'pg_wal') yield* emptyLogDirectory(0o700);
    return;
  }
  if (/^pg_tblspc\/\d+$/.test(path)) {
    const version = walk.options.tablespaceVersionDirectory;
    const place = join(source, version);
    const found = await statOrNull(place);
    if (found?.isDirectory() !== true) return;
    yield { kind: 'directory', path: `${path}/${version}`, mode: found.mode & 0o7777 };
    yield* listDirectory(walk, `${path}/${version}`, place);
    return;
  }
  const target = await readlink(source).catch(() => null);
  if (target === null) return;
  const isDatabase = ownDirectory.test(path);
  const found = isDatabase ? null : await stat(source).catch(() => null);
  if (found?.isFile() === true && mayFollow(found, walk.owner)) yield fileEntry(walk, path, source, found);
  else yield { kind: 'passed over', path, why: `is a symbolic link to '${target}'`, isDatabase };
}

/** As root, only to what the owner of the data directory may read: whose repository it is, reads what is in a backup. */
function mayFollow({ mode, uid, gid }: Stats, owner: Walk['owner']): boolean {
  if (process.geteuid?.() !== 0 || uid === owner.uid) return true;
  return (mode & (gid === owner.gid ? 0o044 : 0o004)) !== 0;
}

function fileEntry(walk: Walk, path: string, source: string, stats: Stats): DataFileEntry {
  const { relationSegmentBlocks } = walk.options;
  const relation = relationOf(path, relationSegmentBlocks);
  return { kind: 'file', path, source, sizeBytes: stats.size, mode: stats.mode & 0o7777, relation };
}

/** Not the server's: none of its names has a backslash, which no manifest may hold, or is anything but ASCII. */
const strangeName = /[\\\uFFFD]/;

/** The entries of a directory that belong to a backup, with their facts; those that vanish meanwhile are passed over. */
async function* entriesOf(
  walk: Walk,
  path: string,
  source: string,
): AsyncGenerator<readonly [string, Stats | 'strange']> {
  const all = await namesIn(source);
  if (all === null) return;
  const wanted = all.filter(nameFilter(path, all));
  const names = wanted.filter(name => !strangeName.test(name));
  if (names.length < wanted.length)
    for (const name of wanted) if (strangeName.test(name)) yield [name, 'strange'];
  for (let start = 0; start < names.length; start += STAT_BATCH) {
    walk.options.signal?.throwIfAborted();
    const batch = names.slice(start, start + STAT_BATCH);
    const isFresh = walk.options.isFresh === true;
    const stats = await Promise.all(
      batch.map(name => (isFresh ? freshStatOrNull : statOrNull)(join(source, name))),
    );
    for (const [index, name] of batch.entries()) {
      const found = stats[index];
      if (found) yield [name, found];
    }
  }
}

function nameFilter(path: string, all: readonly string[]): (name: string) => boolean {
  const unlogged = new Set<string>();
  for (const name of all) if (/^\d+_init$/.test(name)) unlogged.add(name.slice(0, -'_init'.length));
  return name => {
    const entryPath = path === '' ? name : `${path}/${name}`;
    if (leftOut.has(entryPath) || (path === '' && name.startsWith('aishell-'))) return false;
    if (name.startsWith('pgsql_tmp') || name.startsWith('pg_internal.init') || temporaryRelation.test(name))
      return false;
    const file = parseRelationFile(name);
    return file === null || file.fork === 'init' || !unlogged.has(file.node);
  };
}

async function namesIn(directory: string): Promise<string[] | null> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw fileError('list', directory, error);
  }
}

async function statOrNull(path: string): Promise<Stats | null> {
  try {
    return await lstat(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw fileError('read', path, error);
  }
}

function freshStatOrNull(path: string): Stats | null {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) ?? null;
  } catch (error) {
    throw fileError('read', path, error);
  }
}
