import { chown, mkdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import pg from 'pg';
import type { EmbeddedBinaries } from '../src/engines/postgres/embedded-binaries.ts';
import { runAs, type ServerUser } from '../src/engines/postgres/embedded-process.ts';

export interface ServerPlace {
  readonly binaries: EmbeddedBinaries;
  readonly dataDirectory: string;
  /** Holds the socket and the server's log; short enough for a socket's path. */
  readonly runDirectory: string;
  readonly user: ServerUser | null;
}

export interface RunningServer extends AsyncDisposable {
  readonly port: number;
  connect(): Promise<pg.Client>;
}

/** Makes a new, empty cluster with data checksums. Whatever stood there before is removed. */
export async function createDataDirectory(place: ServerPlace): Promise<void> {
  await rm(place.dataDirectory, { recursive: true, force: true });
  await runProgram(place, 'initdb', [
    '-D',
    place.dataDirectory,
    '--username=postgres',
    '--auth=trust',
    '--encoding=UTF8',
    '--locale=C',
    '--data-checksums',
    '--no-sync',
  ]);
}

/**
 * Starts a server on a data directory that is kept from run to run: what differs between runs (port, archiving) goes on
 * the command line, so that the directory itself stays as it is.
 */
export async function startServer(
  place: ServerPlace,
  settings: Readonly<Record<string, string | number>>,
): Promise<RunningServer> {
  const port = await freePort();
  await mkdir(place.runDirectory, { recursive: true });
  if (place.user !== null) await chown(place.runDirectory, place.user.uid, place.user.gid);
  const all = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: place.runDirectory,
    timezone: 'UTC',
    port,
    ...settings,
  };
  const options = Object.entries(all)
    .map(([name, value]) => `-c ${name}=${shellQuoted(String(value))}`)
    .join(' ');
  const log = join(place.runDirectory, 'server.log');
  await runProgram(place, 'pg_ctl', [
    'start',
    '-D',
    place.dataDirectory,
    '-l',
    log,
    '-w',
    '-s',
    '-o',
    options,
  ]);
  return {
    port,
    async connect() {
      const client = new pg.Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' });
      // Without a listener the end of the server, when the run is interrupted, would end this program half way.
      client.on('error', () => undefined);
      await client.connect();
      return client;
    },
    async [Symbol.asyncDispose]() {
      await runProgram(place, 'pg_ctl', [
        'stop',
        '-D',
        place.dataDirectory,
        '-m',
        'fast',
        '-w',
        '-t',
        '300',
        '-s',
      ]);
    },
  };
}

async function runProgram(place: ServerPlace, program: string, args: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await runAs(join(place.binaries.binDirectory, program), args, {
    user: place.user,
    cwd: '/',
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C' },
  });
  if (exitCode !== 0) throw new Error(`${program} exited with ${exitCode}: ${stderr}`);
}

/** For the shell that pg_ctl hands the server's options to. */
function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  await new Promise(resolve => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
