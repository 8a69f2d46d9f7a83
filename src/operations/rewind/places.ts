import { readdir, readlink, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError, systemCode } from '../../base/errors.ts';
import type { Layout } from '../restore/assemble-directory.ts';
import { isMountPoint } from '../restore/target-directory.ts';

/**
 * Where the files of a rewind lie, and where its safety copy keeps them: each on the file system it is from, so that a
 * file is kept by renaming it, whatever its size.
 */
export interface Places {
  readonly dataDirectory: string;
  /** By oid: where the tablespace lies. */
  readonly tablespaces: readonly (readonly [oid: number, place: string])[];
  /** `pg_wal`, without symbolic links. */
  readonly log: string;
  /** The directory of the safety copy. */
  readonly safety: string;
  readonly stamp: string;
}

/** The names that safety copies begin with, also of those within a tablespace or a `pg_wal` of its own. */
export const SAFETY_PREFIX = 'aishell-safety-';
const KEPT_FILES = 'files';
/** The folder of the new control file, until it may be there. */
const NEW_CONTROL_FILE = 'pg_control.new';

/**
 * Finds the places. The safety copy goes beside the data directory. Where that is a mount point, or nothing can be made
 * beside it, it goes into it: there the server leaves alone what it does not know, and backups leave out what begins with
 * `aishell-`.
 */
export async function findPlaces(dataDirectory: string, stamp: string): Promise<Places> {
  const isMount = await isMountPoint(dataDirectory);
  const tablespaces: [number, string][] = [];
  const links = join(dataDirectory, 'pg_tblspc');
  for (const name of await readdir(links).catch(() => [])) {
    const target = await readlink(join(links, name)).catch((error: unknown) => {
      // A tablespace in a plain directory, as tests of PostgreSQL have them.
      if (systemCode(error) === 'EINVAL') return null;
      throw fileError('read', join(links, name), error);
    });
    if (target !== null && /^\d+$/.test(name)) tablespaces.push([Number(name), await realpath(target)]);
  }
  return {
    dataDirectory,
    tablespaces,
    log: await realpath(join(dataDirectory, 'pg_wal')),
    safety: isMount
      ? join(dataDirectory, `${SAFETY_PREFIX}${stamp}`)
      : `${dataDirectory}.${SAFETY_PREFIX}${stamp}`,
    stamp,
  };
}

/** The same with the safety copy within the data directory. */
export function withinDataDirectory(places: Places): Places {
  return { ...places, safety: join(places.dataDirectory, `${SAFETY_PREFIX}${places.stamp}`) };
}

export function layoutOf(places: Places): Layout {
  return { dataDirectory: places.dataDirectory, tablespaces: new Map(places.tablespaces) };
}

/** Every place that a rewind writes to, to be flushed. */
export function flushedLayout(places: Places): Layout {
  return { ...layoutOf(places), tablespaces: new Map([...places.tablespaces, [0, places.log]]) };
}

/** Where a file of the server lies; `path` is relative to the data directory, as in manifests. */
export function livePlace(places: Places, path: string): string {
  if (path === 'pg_wal') return places.log;
  if (path.startsWith('pg_wal/')) return join(places.log, path.slice('pg_wal/'.length));
  const tablespace = /^pg_tblspc\/(\d+)\/(.+)$/.exec(path);
  const place = places.tablespaces.find(([oid]) => String(oid) === tablespace?.[1])?.[1];
  return place === undefined || tablespace?.[2] === undefined
    ? join(places.dataDirectory, path)
    : join(place, tablespace[2]);
}

/** Where the safety copy keeps it. */
export function keptPlace(places: Places, path: string): string {
  const own = join(places.dataDirectory, 'pg_wal');
  if (path.startsWith('pg_wal/') && places.log !== own)
    return join(places.log, `${SAFETY_PREFIX}${places.stamp}`, path.slice('pg_wal/'.length));
  const tablespace = /^pg_tblspc\/(\d+)\/(.+)$/.exec(path);
  const place = places.tablespaces.find(([oid]) => String(oid) === tablespace?.[1])?.[1];
  return place === undefined || tablespace?.[2] === undefined
    ? join(places.safety, KEPT_FILES, path)
    : join(place, `${SAFETY_PREFIX}${places.stamp}`, tablespace[2]);
}

/** All directories that hold a part of the safety copy. */
export function keptDirectories(places: Places): string[] {
  const name = `${SAFETY_PREFIX}${places.stamp}`;
  return [
    places.safety,
    ...places.tablespaces.map(([, place]) => join(place, name)),
    ...(places.log === join(places.dataDirectory, 'pg_wal') ? [] : [join(places.log, name)]),
  ];
}

/** Where the recovered control file waits until everything else is on the disk. */
export function heldControlFile(places: Places): string {
  return join(places.safety, NEW_CONTROL_FILE);
}

/** Who owns the data directory, for files that root makes. */
export async function ownerOfFiles(
  dataDirectory: string,
): Promise<{ readonly uid: number; readonly gid: number } | null> {
  const { uid, gid } = await stat(dataDirectory);
  return process.getuid?.() === 0 ? { uid, gid } : null;
}
