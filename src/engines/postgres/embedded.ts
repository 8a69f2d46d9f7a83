import { existsSync, readFileSync } from 'node:fs';
import { chmod, chown, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../../base/errors.ts';
import type { CommandResult } from '../../base/run-command.ts';
import type { EmbeddedBinaries } from './embedded-binaries.ts';
import { type ReservedPort, reservePort } from './embedded-port.ts';
import { runAs, type ServerUser, signalQuietly } from './embedded-process.ts';

export interface ClusterOptions {
  readonly binaries: EmbeddedBinaries;
  /** Is created, and holds the data directory, the server's log and its socket. */
  readonly directory: string;
  /** From `chooseServerUser`. */
  readonly user: ServerUser | null;
  /** Otherwise a free one is chosen. */
  readonly port?: number;
  /** For postgresql.conf, over this module's own. */
  readonly settings?: Readonly<Record<string, string | number>>;
  /** Data checksums; on unless false. */
  readonly checksums?: boolean;
  /** 16 unless given. */
  readonly walSegmentSizeMb?: number;
  /** The server's environment, for its archive_command; by default this program's. */
  readonly env?: NodeJS.ProcessEnv;
}

/** A PostgreSQL server of our own, with `postgres` as its superuser and trust for everyone on this machine. */
export interface EmbeddedCluster extends AsyncDisposable {
  readonly binaries: EmbeddedBinaries;
  readonly user: ServerUser | null;
  readonly dataDirectory: string;
  readonly logFile: string;
  /** Where to connect; valid once started. */
  readonly connection: {
    readonly host: string;
    readonly port: number;
    readonly user: string;
    readonly database: string;
  };
  start(): Promise<void>;
  /** Fine when it is not running. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>;
  restart(): Promise<void>;
  /** SIGKILL to every process of the server, as a power failure would stop it. Resolves when all are gone. */
  kill9(): Promise<void>;
  /** The postmaster, whoever started it; null when none is running. */
  pid(): Promise<number | null>;
}

/** The longest path of a socket that PostgreSQL takes, less its own file name. @source unix(7), sun_path */
const SOCKET_DIRECTORY_MAX = 107 - '/.s.PGSQL.65535.lock'.length;

/** Creates a database cluster; it is not started. @throws SERVICE_FAILED initdb failed */
export async function createCluster(options: ClusterOptions): Promise<EmbeddedCluster> {
  const { directory, user } = options;
  await mkdir(directory, { recursive: true });
  // Group and others may enter: whoever knows the socket's name may connect, the data directory itself is 0700.
  await chmod(directory, 0o755);
  if (user !== null) await chown(directory, user.uid, user.gid);
  const server = new Server(options);
  await server.initialize();
  return server;
}

class Server implements EmbeddedCluster {
  readonly binaries: EmbeddedBinaries;
  readonly user: ServerUser | null;
  readonly dataDirectory: string;
  readonly logFile: string;
  readonly #options: ClusterOptions;
  #reserved: ReservedPort | null = null;
  #configuration = '';

  constructor(options: ClusterOptions) {
    this.#options = options;
    this.binaries = options.binaries;
    this.user = options.user;
    this.dataDirectory = join(options.directory, 'data');
    this.logFile = join(options.directory, 'server.log');
  }

  get connection(): EmbeddedCluster['connection'] {
    const port = this.#options.port ?? this.#reserved?.port;
    if (port === undefined) throw new Error('the cluster was never started');
    return { host: '127.0.0.1', port, user: 'postgres', database: 'postgres' };
  }

  async initialize(): Promise<void> {
    const { checksums = true, walSegmentSizeMb } = this.#options;
    // From version 18 on checksums are the default, and only there can they be refused by an option.
    const checksumArgs = checksums
      ? ['--data-checksums']
      : this.binaries.version >= 18
        ? ['--no-data-checksums']
        : [];
    const args = [
      '-D',
      this.dataDirectory,
      '--username=postgres',
      '--auth=trust',
      '--encoding=UTF8',
      '--locale=C',
      '--no-sync',
      '--no-instructions',
      ...checksumArgs,
      ...(walSegmentSizeMb === undefined ? [] : [`--wal-segsize=${walSegmentSizeMb}`]),
    ];
    const { exitCode, stderr } = await this.#run('initdb', args);
    if (exitCode !== 0) {
      throw new AppError(
        'SERVICE_FAILED',
        `unable to create a database cluster in '${this.dataDirectory}': ${lastLine(stderr)}`,
      );
    }
    this.#configuration = await readFile(join(this.dataDirectory, 'postgresql.conf'), 'utf8');
  }

  // Never cut short: a server that is just starting has no postmaster.pid yet, and could not be stopped.
  async start(): Promise<void> {
    const firstStart = this.#reserved === null;
    for (let attempt = 1; ; attempt += 1) {
      if (firstStart) await this.#configure();
      const logged = (await readFile(this.logFile, 'utf8').catch(() => '')).length;
      const args = ['start', '-D', this.dataDirectory, '-l', this.logFile, '-w', '-t', '120', '-s'];
      const { exitCode, stderr } = await this.#run('pg_ctl', args);
      if (exitCode === 0) return;
      const log = (await readFile(this.logFile, 'utf8').catch(() => '')).slice(logged);
      // The port may have been taken between our look and the server's; before the first start nobody knows it yet.
      const taken = /could not bind|Address already in use/.test(log);
      if (taken && firstStart && this.#options.port === undefined && attempt < 10) continue;
      throw new AppError(
        'SERVICE_FAILED',
        `unable to start PostgreSQL in '${this.dataDirectory}': ${lastLine(log || stderr)}`,
        {
          hint: `The server's own words are in '${this.logFile}'.`,
        },
      );
    }
  }

  async #configure(): Promise<void> {
    this.#reserved?.release();
    this.#reserved = this.#options.port === undefined ? await reservePort() : null;
    const socketDirectory =
      this.#options.directory.length <= SOCKET_DIRECTORY_MAX ? this.#options.directory : '';
    const settings: Record<string, string | number> = {
      listen_addresses: '127.0.0.1',
      port: this.connection.port,
      unix_socket_directories: socketDirectory,
      timezone: 'UTC',
      log_timezone: 'UTC',
      ...this.#options.settings,
    };
    const lines = Object.entries(settings).map(
      ([name, value]) => `${name} = '${String(value).replaceAll("'", "''")}'\n`,
    );
    await writeFile(join(this.dataDirectory, 'postgresql.conf'), `${this.#configuration}\n${lines.join('')}`);
  }

  async stop(mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    if ((await this.pid()) === null) return;
    const { exitCode, stderr } = await this.#run('pg_ctl', [
      'stop',
      '-D',
      this.dataDirectory,
      '-m',
      mode,
      '-w',
      '-t',
      '120',
      '-s',
    ]);
    if (exitCode === 0 || (await this.pid()) === null) return;
    throw new AppError(
      'SERVICE_FAILED',
      `unable to stop PostgreSQL in '${this.dataDirectory}': ${lastLine(stderr)}`,
    );
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  async kill9(): Promise<void> {
    const pid = await this.pid();
    if (pid === null) return;
    const children = await childrenOf(pid);
    for (const victim of [pid, ...children]) signalQuietly(victim, 'SIGKILL');
    while ([pid, ...children].some(isAlive)) await sleep(10);
    // Until its parent has noticed, a dead postmaster looks alive to the next one, which refuses to start over its lock
    // files. As the first process of a container or a small machine may take seconds for that, or never do it, they go.
    for (let waited = 0; waited < 50 && existsSync(`/proc/${pid}`); waited += 1) await sleep(10);
    if (!existsSync(`/proc/${pid}`)) return;
    const socketLock = join(this.#options.directory, `.s.PGSQL.${this.connection.port}.lock`);
    for (const file of [join(this.dataDirectory, 'postmaster.pid'), socketLock])
      await rm(file, { force: true });
  }

  async pid(): Promise<number | null> {
    const text = await readFile(join(this.dataDirectory, 'postmaster.pid'), 'utf8').catch(() => '');
    const pid = Number(text.split('\n')[0]);
    return Number.isInteger(pid) && pid > 1 && isAlive(pid) ? pid : null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop('immediate').catch(() => this.kill9());
    this.#reserved?.release();
  }

  #run(program: string, args: readonly string[]): Promise<CommandResult> {
    return runAs(join(this.binaries.binDirectory, program), args, {
      user: this.user,
      cwd: this.#options.directory,
      env: { ...(this.#options.env ?? process.env), LC_ALL: 'C' },
    });
  }
}

/** @source proc(5), /proc/pid/task/tid/children */
async function childrenOf(pid: number): Promise<number[]> {
  const path = `/proc/${pid}/task/${pid}/children`;
  if (!existsSync(path)) return [];
  return (await readFile(path, 'utf8'))
    .split(' ')
    .map(Number)
    .filter(child => child > 1);
}

/** Whether a process runs; one that ended and only waits for its parent to notice does not. */
function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return process.platform !== 'linux' && answersSignals(pid);
  }
}

function answersSignals(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

function lastLine(output: string): string {
  return output.trim().split('\n').at(-1)?.trim() ?? '';
}
