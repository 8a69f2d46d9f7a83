import { readFile, readlink, realpath, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { AppError, fileError, systemCode } from '../../base/errors.ts';
import { runCommand } from '../../base/run-command.ts';

export interface DataDirectoryFacts {
  /** Without symbolic links. */
  readonly path: string;
  readonly majorVersion: number;
  /** The owner, whom the server must run as. */
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

/** What is known of a data directory without a server. @throws FILE_FAILED it is none, or cannot be read */
export async function inspectDataDirectory(dataDirectory: string): Promise<DataDirectoryFacts> {
  try {
    const path = await realpath(dataDirectory);
    const facts = await stat(path);
    const version = (await readFile(join(path, 'PG_VERSION'), 'utf8')).trim();
    if (!/^\d+$/.test(version)) {
      throw new AppError(
        'ENGINE_VERSION',
        `unable to work with '${dataDirectory}': its PG_VERSION is '${version.slice(0, 20)}'`,
      );
    }
    return { path, majorVersion: Number(version), uid: facts.uid, gid: facts.gid, mode: facts.mode & 0o7777 };
  } catch (error) {
    if (error instanceof AppError) throw error;
    if (systemCode(error) !== 'ENOENT') throw fileError('read', dataDirectory, error);
    throw new AppError(
      'FILE_FAILED',
      `unable to read '${dataDirectory}': it is not a PostgreSQL data directory`,
      {
        hint: 'A data directory has a file PG_VERSION; `SHOW data_directory` names it.',
        cause: error,
      },
    );
  }
}

/** What a server wrote down as it started. It may have died since: see {@link runningServer}. */
export interface PostmasterFile {
  readonly pid: number;
  readonly startTimeSeconds: number;
  readonly port: number;
  /** Empty when it has no socket. */
  readonly socketDirectory: string;
  /** `starting`, `stopping`, `ready` or `standby`; empty at the very beginning. */
  readonly status: string;
}

/** Reads postmaster.pid; null when there is none. @source miscadmin.h, "LOCK_FILE_LINE_*" */
export async function readPostmasterFile(dataDirectory: string): Promise<PostmasterFile | null> {
  const text = await readOrNull(join(dataDirectory, 'postmaster.pid'));
  const lines = (text ?? '').split('\n');
  const pid = Math.abs(Number(lines[0]));
  if (!Number.isInteger(pid) || pid <= 0) return null;
  return {
    pid,
    startTimeSeconds: Number(lines[2]) || 0,
    port: Number(lines[3]) || 0,
    socketDirectory: lines[4] ?? '',
    status: (lines[7] ?? '').trim(),
  };
}

/**
 * The server that runs in this directory, or null. A postmaster.pid that a crash left behind does not count, even when
 * another process has its number by now. Only servers of this machine are seen: one in a container with process
 * numbers of its own is not.
 */
export async function runningServer(dataDirectory: string): Promise<PostmasterFile | null> {
  const file = await readPostmasterFile(dataDirectory);
  if (file === null || !(await isAlive(file.pid))) return null;
  return (await isPostmasterOf(file, dataDirectory)) ? file : null;
}

/** Whether a process runs; one that has ended and waits for its parent to notice does not. @source proc(5) */
export async function isAlive(pid: number): Promise<boolean> {
  const text = await readOrNull(`/proc/${pid}/stat`);
  if (text !== null) return !/^[ZX]/.test(text.slice(text.lastIndexOf(')') + 2));
  try {
    return process.kill(pid, 0) && process.platform !== 'linux';
  } catch (error) {
    return systemCode(error) === 'EPERM';
  }
}

/** A postmaster works in its data directory. Where that cannot be seen, its program's name decides. */
async function isPostmasterOf(file: PostmasterFile, dataDirectory: string): Promise<boolean> {
  try {
    const [cwd, own] = [await readlink(`/proc/${file.pid}/cwd`), await realpath(dataDirectory)];
    return cwd === own;
  } catch {
    // Another user's process, or no /proc.
  }
  const name = (await readOrNull(`/proc/${file.pid}/comm`)) ?? (await commandName(file.pid));
  return /^(postgres|postmaster)/.test(basename(name.trim()));
}

async function commandName(pid: number): Promise<string> {
  return (await runCommand(['ps', '-o', 'comm=', '-p', String(pid)])).stdout;
}

/** How a server was started: its program and its options. */
export interface PostmasterOptions {
  readonly program: string;
  readonly options: readonly string[];
}

/** Reads postmaster.opts, which outlives the server; null when there is none. */
export async function readPostmasterOptions(dataDirectory: string): Promise<PostmasterOptions | null> {
  const text = await readOrNull(join(dataDirectory, 'postmaster.opts'));
  return text === null ? null : parsePostmasterOptions(text);
}

/**
 * The server writes its program, then each option in quotes, without escaping what is in them. So an option may hold a
 * quote, but not the sequence `" "`.
 * @source postmaster.c, CreateOptsFile
 */
export function parsePostmasterOptions(text: string): PostmasterOptions | null {
  const line = text.replace(/\n$/, '');
  const start = line.indexOf(' "');
  if (start < 0) return line.trim() === '' ? null : { program: line.trim(), options: [] };
  if (!line.endsWith('"')) return null;
  return { program: line.slice(0, start), options: line.slice(start + 2, -1).split('" "') };
}

/** The options without the data directory: whoever starts the server again names that himself. */
export function withoutDataDirectory(options: readonly string[]): string[] {
  const kept: string[] = [];
  for (let index = 0; index < options.length; index += 1) {
    const option = options[index]!;
    if (option === '-D') {
      index += 1;
    } else if (!/^-D./.test(option) && !/^--(pgdata|data[-_]directory)=/.test(option)) {
      kept.push(option);
    }
  }
  return kept;
}

async function readOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    // ESRCH: the process ended while it was looked at. ENOTDIR: the directory is a file.
    if (['ENOENT', 'ESRCH', 'ENOTDIR'].includes(systemCode(error))) return null;
    throw fileError('read', path, error);
  }
}
