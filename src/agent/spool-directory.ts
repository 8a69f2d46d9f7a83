import { readdirSync, renameSync, rmSync, statSync, unlink } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError } from '../base/errors.ts';
import { classifyLogFileName } from '../engines/postgres/lsn.ts';

/** Behind a segment's name: being received; archived, and kept for a while; not what the server has now. */
export const PARTIAL = '.partial';
const DONE = '.done';
const ASIDE = '.aside-';

/** A file of the spool that is part of the log. */
export interface SpoolFile {
  /** In the directory. */
  readonly file: string;
  readonly segment: string;
  readonly timeline: number;
  /** Start of the segment. */
  readonly lsn: bigint;
  readonly state: 'full' | 'partial' | 'archived';
  readonly sizeBytes: number;
}

/**
 * Where the log of one database system lies until it is archived. The names say all there is to know: what is full, what
 * is archived. So the agent can be killed at any moment.
 */
export interface SpoolDirectory {
  readonly path: string;
  /** In the order of the log. */
  list(): readonly SpoolFile[];
  /** Bytes that are in no other place than here and, for a while, on the server. */
  unarchivedBytes(): number;
  /** Marks a file as archived, and removes older ones of these. A partial one is removed itself. */
  markArchived(file: Pick<SpoolFile, 'file' | 'state'>): void;
  /** Takes a file out of the way that does not hold what the server has. Its bytes stay. */
  putAside(file: string): string;
}

/** How many archived segments stay, for comparing them with what archive_command brings. */
const KEPT = 3;

/** @throws FILE_FAILED, DISK_FULL */
export async function openSpoolDirectory(path: string, segmentSize: number): Promise<SpoolDirectory> {
  await mkdir(path, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw fileError('create', path, error);
  });
  const list = (): SpoolFile[] =>
    readdirSync(path)
      .flatMap(file => describe(path, file, segmentSize) ?? [])
      .sort((a, b) => (a.timeline === b.timeline ? Number(a.lsn - b.lsn) : a.timeline - b.timeline));
  return {
    path,
    list,
    unarchivedBytes: () =>
      list().reduce((sum, file) => (file.state === 'archived' ? sum : sum + file.sizeBytes), 0),
    markArchived({ file, state }) {
      if (state === 'partial') rmSync(join(path, file), { force: true });
      if (state === 'full') renameSync(join(path, file), join(path, `${file}${DONE}`));
      const archived = list().filter(each => each.state === 'archived');
      // To free 16 MiB takes long enough to be felt by commits that wait: so in the background.
      for (const old of archived.slice(0, -KEPT)) unlink(join(path, old.file), () => undefined);
    },
    putAside(file) {
      const aside = `${file}${ASIDE}${Date.now()}`;
      renameSync(join(path, file), join(path, aside));
      return aside;
    },
  };
}

function describe(directory: string, file: string, segmentSize: number): SpoolFile | null {
  const dot = file.indexOf('.');
  const [segment, suffix] = dot < 0 ? [file, ''] : [file.slice(0, dot), file.slice(dot)];
  const state = suffix === '' ? 'full' : suffix === PARTIAL ? 'partial' : suffix === DONE ? 'archived' : null;
  const name = classifyLogFileName(segment, segmentSize);
  if (state === null || name?.kind !== 'segment' || name.lsn === undefined) return null;
  const sizeBytes = statSync(join(directory, file), { throwIfNoEntry: false })?.size;
  if (sizeBytes === undefined) return null;
  return { file, segment, timeline: name.timeline, lsn: name.lsn, state, sizeBytes };
}

/** How far the spool holds the log of each timeline, with what an earlier run may not have flushed. */
export function spoolEnds(files: readonly SpoolFile[]): ReadonlyMap<number, bigint> {
  const ends = new Map<number, bigint>();
  for (const { timeline, lsn, sizeBytes } of files) {
    const end = lsn + BigInt(sizeBytes);
    if (end > (ends.get(timeline) ?? -1n)) ends.set(timeline, end);
  }
  return ends;
}

/**
 * How far it is sure on each timeline: up to the first file that has not got its name, though later ones may be there. A
 * full one gets its name when it is flushed: one that was not, is received again and compared, and so gets it. The server
 * still has it, as nothing behind it was acknowledged.
 */
export function sureEnds(files: readonly SpoolFile[]): ReadonlyMap<number, bigint> {
  const ends = new Map(spoolEnds(files));
  for (const { timeline, lsn, state, sizeBytes } of files) {
    if (state !== 'partial') continue;
    const end = lsn + BigInt(Math.max(0, sizeBytes - 1));
    if (end < ends.get(timeline)!) ends.set(timeline, end);
  }
  return ends;
}
