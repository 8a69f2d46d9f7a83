import { chown, mkdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
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
  const port = Number(settings['port'] ?? (await freePort()));
  await mkdir(place.runDirectory, { recursive: true });
  if (place.user !== null) await chown(place.runDirectory, place.user.uid, place.user.gid);
  const all = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: place.runDirectory,
    timezone: 'UTC',
    ...settings,
    port,
  };
  const options = Object.entries(all)
    .map(([name, value]) => `-c ${name}=${shellQuoted(String(value))}`)
    .join(' ');
  const log = join(place.runDirectory, 'server.log');
  await runProgram(place, 'pg_ctl', [
    ...['start', '-D', place.dataDirectory, '-l', log, '-w', '-t', '600', '-s', '-o', options],
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
    [Symbol.asyncDispose]: () => stopServer(place),
  };
}

/** Stops the server of that data directory, with everything written out. */
export async function stopServer(place: ServerPlace): Promise<void> {
  await runProgram(place, 'pg_ctl', [
    ...['stop', '-D', place.dataDirectory, '-m', 'fast', '-w', '-t', '300', '-s'],
  ]);
}

/** Waits until a server takes writes: while it recovers, it may already answer. */
export async function untilOpen(server: RunningServer): Promise<void> {
  for (;;) {
    try {
      const client = await server.connect();
      const { rows } = await client
        .query<{ recovering: boolean }>('select pg_is_in_recovery() as recovering')
        .finally(() => client.end());
      if (rows[0]?.recovering === false) return;
    } catch (error) {
      // cannot_connect_now: it does not answer yet.
      if (!(error instanceof pg.DatabaseError) || error.code !== '57P03') throw error;
    }
    await sleep(20);
  }
}

async function runProgram(place: ServerPlace, program: string, args: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await runAs(join(place.binaries.binDirectory, program), args, {
    user: place.user,
    cwd: '/',
    // As systemd starts one: with a home, which archive_command finds too.
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', HOME: place.runDirectory },
  });
  if (exitCode !== 0) throw new Error(`${program} exited with ${exitCode}: ${stderr}`);
}

/** For the shell that pg_ctl hands the server's options to. */
function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

export async function freePort(): Promise<number> {
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
