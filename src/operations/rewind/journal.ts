import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { isAlive } from '../../engines/postgres/data-directory.ts';
import { removeDurably, writeDurably } from './durable-files.ts';
import type { Places } from './places.ts';
import { exists } from './safety-copy.ts';

/**
 * How far a rewind is. Each word is on the disk before anything that comes after it is begun.
 *
 * - `saving`: the live files are put aside and copied; none was written over. Whatever cut it off, it is put back.
 * - `rewriting`: the safety copy is whole and on the disk. The files are written over and recovered, without flushing: after
 *   any interruption this is begun anew, as all of it is decided by the safety copy, the backup and the log.
 * - `recovered`: the database is recovered, stopped and checked, but may only be in memory. After a crash of the machine it
 *   is begun anew like `rewriting`.
 * - `flushed`: all of it is on the disk; the control file is still held back.
 * - `placed`: the control file is in its place: a database like any other, which may have been started and written to.
 * - `going-back`: the state before is being brought back; only that can be done.
 * - `returned`: all of it is back and on the disk but for the control file, or with it: a database that may have been started
 *   and written to. Nothing but the control file is touched any more.
 */
export type RewindPhase =
  | 'saving'
  | 'rewriting'
  | 'recovered'
  | 'flushed'
  | 'placed'
  | 'going-back'
  | 'returned';

/** Everything that a later run needs to go on with a rewind, or to go back. */
export interface RewindJournal {
  /** 2: the state has settled pages, of which a program that knows only 1 would decide otherwise. */
  readonly format: 1 | 2;
  readonly phase: RewindPhase;
  readonly instance: string;
  readonly places: Places;
  /** What was asked for, so that the same command again is recognised. */
  readonly request: string;
  /** For people. */
  readonly requested: string;
  readonly backup: string;
  /** `PG_18_202506291`: the folder of this version within each tablespace. */
  readonly tablespaceVersionDirectory: string;
  readonly systemIdentifier: string;
  /** The timeline that the live database was on, and is rewound along. */
  readonly timeline: number;
  readonly startLsn: string;
  readonly targetLsn: string;
  readonly endLsn: string;
  readonly lastKept: { readonly xid: number; readonly timeUs: string; readonly lsn: string } | null;
  readonly firstDropped: { readonly xid: number; readonly timeUs: string; readonly lsn: string } | null;
  readonly wasRunning: boolean;
  /** Of the live control file that all was decided with. */
  readonly controlHash: string;
  /** The directory of the server's programs. */
  readonly binaries: string;
  /** Files in which threads have kept pages. */
  readonly pageFiles: readonly string[];
  /** The timeline that the rewound database goes on with, and where it begins. */
  readonly recovered: { readonly timeline: number; readonly lsn: string } | null;
  /**
   * Sessions may have read the rewound database, and so set hints in pages that no record before had named: going back takes
   * those from the backup.
   */
  readonly used: boolean;
  /** Who works on it: a process of this boot of the machine. */
  readonly bootId: string;
  readonly pid: number;
  readonly processStart: string;
}

/** In the data directory of a rewind that is not finished: where its safety copy is. Backups leave it out. */
const POINTER = 'aishell-rewind.json';
const JOURNAL = 'rewind.json';

/** Writes the journal, durable when it resolves. */
export async function writeJournal(journal: RewindJournal): Promise<RewindJournal> {
  const own = { ...journal, ...(await thisProcess()) };
  await writeDurably(join(journal.places.safety, JOURNAL), `${JSON.stringify(own, null, 2)}\n`);
  return own;
}

/** Makes the rewind known in its data directory: from here on it is finished or undone, not forgotten. */
export async function pointToJournal({ places }: RewindJournal): Promise<void> {
  await writeDurably(join(places.dataDirectory, POINTER), `${JSON.stringify({ safety: places.safety })}\n`);
}

export async function removePointer({ places }: RewindJournal): Promise<void> {
  await removeDurably(join(places.dataDirectory, POINTER));
}

/** The rewind that is not finished in a data directory; null when there is none. @throws CORRUPT */
export async function findUnfinished(dataDirectory: string): Promise<RewindJournal | null> {
  const pointer = await readJson(join(dataDirectory, POINTER));
  if (pointer === null) return null;
  if (typeof pointer['safety'] !== 'string') throw damaged(join(dataDirectory, POINTER));
  return await readJournal(pointer['safety']);
}

/** @throws USAGE there is no such directory; CORRUPT it is none; UNSUPPORTED */
export async function readJournal(safety: string): Promise<RewindJournal> {
  const path = join(safety, JOURNAL);
  const read = await readJson(path);
  if (read === null) {
    const isThere = await exists(safety);
    throw new AppError(
      isThere ? 'CORRUPT' : 'USAGE',
      `unable to use the safety copy '${safety}': ${isThere ? `it has no ${JOURNAL}` : 'it is not there'}`,
      { hint: 'Name the directory that `aishell backup restore` printed, ….aishell-safety-….' },
    );
  }
  if (read['format'] !== 1 && read['format'] !== 2)
    throw new AppError('UNSUPPORTED', `unable to read '${path}': it was written by a newer version`);
  if (typeof read['phase'] !== 'string' || typeof read['places'] !== 'object') throw damaged(path);
  return read as unknown as RewindJournal;
}

/** @throws LOCKED when another process works on it */
export async function refuseOther(journal: RewindJournal): Promise<void> {
  const own = await thisProcess();
  if (journal.bootId !== own.bootId || journal.pid === own.pid || !(await isAlive(journal.pid))) return;
  if ((await startOf(journal.pid)) !== journal.processStart) return;
  throw new AppError('LOCKED', `another run is working on this rewind (process ${journal.pid})`, {
    hint: 'Wait for it, or stop it.',
  });
}

/**
 * Makes this process the one that works on a rewind. Where the machine was started anew since it was recovered, without
 * flushing, that is begun anew; which boot it was is known only until this is written down.
 */
export async function takeOver(found: RewindJournal): Promise<RewindJournal> {
  await refuseOther(found);
  const { bootId } = await thisProcess();
  // Where the system does not say, it is safer to think so.
  const hasRebooted = bootId === '' || found.bootId !== bootId;
  return await writeJournal(
    found.phase === 'recovered' && hasRebooted ? { ...found, phase: 'rewriting' } : found,
  );
}

async function thisProcess(): Promise<Pick<RewindJournal, 'bootId' | 'pid' | 'processStart'>> {
  const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')).trim();
  return { bootId, pid: process.pid, processStart: await startOf(process.pid) };
}

/** When a process was started, in clock ticks: its number alone may be another's by now. @source proc(5), field 22 */
async function startOf(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

async function readJson(path: string): Promise<Record<string, unknown> | null> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(systemCode(error))) return null;
    throw fileError('read', path, error);
  }
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    throw damaged(path);
  }
}

function damaged(path: string): AppError {
  return new AppError('CORRUPT', `unable to read '${path}': it is damaged`);
}
