import { access, constants, readlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError } from '../../base/errors.ts';
import { runCommand } from '../../base/run-command.ts';
import { readPostmasterOptions, runningServer } from './data-directory.ts';

/** The programs of one PostgreSQL installation. */
export interface Binaries {
  readonly directory: string;
  readonly postgres: string;
  readonly pgCtl: string;
  /** As `15.18`. */
  readonly version: string;
}

export interface FindBinariesOptions {
  /** Only this directory is looked at. */
  readonly configured?: string | null;
  /** The programs that run, or last ran, in this directory come first. */
  readonly dataDirectory?: string;
  readonly env?: NodeJS.ProcessEnv;
}

/**
 * Finds the programs of a major version: where configured; else those of the running server, those that last ran in the
 * data directory, where packages put them, and the PATH, in this order.
 *
 * @throws PROGRAM_NOT_FOUND naming where was looked
 */
export async function findBinaries(
  majorVersion: number,
  options: FindBinariesOptions = {},
): Promise<Binaries> {
  const directories = options.configured ? [options.configured] : await candidates(majorVersion, options);
  const seen: string[] = [];
  for (const directory of new Set(directories)) {
    const version = await versionIn(directory);
    if (version?.split('.')[0]?.replace(/\D.*$/, '') === String(majorVersion)) {
      return { directory, postgres: join(directory, 'postgres'), pgCtl: join(directory, 'pg_ctl'), version };
    }
    seen.push(version === null ? directory : `${directory} (has version ${version})`);
  }
  throw new AppError(
    'PROGRAM_NOT_FOUND',
    `unable to find postgres and pg_ctl of PostgreSQL ${majorVersion}`,
    {
      hint: `Looked in ${seen.join(', ')}. Install the server package, or set the instance's binaries to the directory.`,
    },
  );
}

async function candidates(majorVersion: number, options: FindBinariesOptions): Promise<string[]> {
  const { dataDirectory } = options;
  const found: string[] = [];
  if (dataDirectory !== undefined) {
    const server = await runningServer(dataDirectory);
    // After an upgrade of the package the running program's file is gone: its name then ends in ' (deleted)'.
    const program = server === null ? null : await readlink(`/proc/${server.pid}/exe`).catch(() => null);
    if (program !== null && !program.endsWith(' (deleted)')) found.push(dirname(program));
    const last = await readPostmasterOptions(dataDirectory);
    if (last?.program.startsWith('/')) found.push(dirname(last.program));
  }
  const path = ((options.env ?? process.env).PATH ?? '')
    .split(':')
    .filter(directory => directory.startsWith('/'));
  return [
    ...found,
    `/usr/lib/postgresql/${majorVersion}/bin`,
    `/usr/pgsql-${majorVersion}/bin`,
    `/usr/lib/postgresql${majorVersion}/bin`,
    `/usr/libexec/postgresql${majorVersion}`,
    '/usr/local/pgsql/bin',
    `/opt/homebrew/opt/postgresql@${majorVersion}/bin`,
    ...path,
  ];
}

/** The version of the programs in a directory; null when it has not both. */
async function versionIn(directory: string): Promise<string | null> {
  try {
    for (const program of ['postgres', 'pg_ctl']) await access(join(directory, program), constants.X_OK);
    const { stdout } = await runCommand([join(directory, 'postgres'), '--version'], { timeoutMs: 30_000 });
    return /\(PostgreSQL\) (\S+)/.exec(stdout)?.[1] ?? null;
  } catch {
    return null;
  }
}
