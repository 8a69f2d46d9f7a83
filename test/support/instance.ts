import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { InitResult } from '../../src/app/init-instance.ts';
import { reservePort } from '../../src/engines/postgres/embedded-port.ts';
import { runAs } from '../../src/engines/postgres/embedded-process.ts';
import type { CreateBackupResult } from '../../src/operations/backup/create-backup.ts';
import type { RestoreReport } from '../../src/operations/restore/restore-report.ts';
import { type CliOptions, type CliResult, type RunningCli, runCli, startCli } from './cli.ts';
import type { TestCluster } from './postgres.ts';

/** A test's server under the protection of `aishell`: its repository and configuration lie beside its data directory. */
export interface TestInstance {
  readonly cluster: TestCluster;
  readonly name: string;
  readonly configFile: string;
  /** The directory of the repository. */
  readonly repository: string;
  readonly init: InitResult;
  /** Starts `aishell ARGS --json` with the instance's configuration. */
  start(args: readonly string[], options?: CliOptions): RunningCli;
  run(args: readonly string[], options?: CliOptions): Promise<CliResult>;
  /** `backup create`; fails unless its exit code is 0. */
  backup(args?: readonly string[], options?: CliOptions): Promise<CreateBackupResult>;
  /** `backup restore`; fails unless its exit code is 0. In place, both confirmations are given. */
  restore(args: readonly string[], options?: CliOptions): Promise<RestoreReport>;
  /** A path beside the data directory. */
  path(name: string): string;
  /** Names of the archived log files, in order. */
  archivedLog(): Promise<string[]>;
}

/** Runs `backup init` for a server; unless `archiving` is false, does what its answer says to archive the log. */
export async function protect(
  cluster: TestCluster,
  options: { readonly name?: string; readonly archiving?: boolean } = {},
): Promise<TestInstance> {
  const name = options.name ?? 'shop';
  const configFile = join(cluster.directory, 'aishell.yaml');
  const repository = join(cluster.directory, 'repository');
  const { host, port, user, database } = cluster.connection;
  const url = `postgresql://${user}@${host}:${port}/${database}`;
  const made = await runCli([
    ...['backup', 'init', url, '--storage', repository, '--name', name],
    ...['--config', configFile, '--json'],
  ]);
  const init = resultOf<InitResult>(made);
  const start = (args: readonly string[], cli?: CliOptions): RunningCli =>
    startCli([...args, '--config', configFile, '--json'], cli);
  const run = (args: readonly string[], cli?: CliOptions): Promise<CliResult> => start(args, cli).done;
  const instance: TestInstance = {
    cluster,
    name,
    configFile,
    repository,
    init,
    start,
    run,
    backup: async (args = [], cli) => resultOf(await run(['backup', 'create', ...args], cli)),
    restore: async (args, cli) => {
      const confirmed = args.includes('--target') ? [] : ['--confirm', `restore ${name}`, '--yes'];
      return resultOf(await run(['backup', 'restore', ...args, ...confirmed], cli));
    },
    path: own => join(cluster.directory, own),
    archivedLog: async () => {
      const folder = join(repository, 'instances', name, 'log');
      const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
      return entries
        .filter(entry => entry.isFile())
        .map(entry => entry.name)
        .sort();
    },
  };
  if (options.archiving !== false) await turnArchivingOn(instance);
  return instance;
}

async function turnArchivingOn({ cluster, init }: TestInstance): Promise<void> {
  for (const statement of init.archiveSql) await cluster.query(statement);
  if (init.restartNeeded) await cluster.restart();
}

/** Waits until archive_command has delivered a log file. */
export async function untilArchived(instance: TestInstance, name: string): Promise<void> {
  for (let tries = 0; !(await instance.archivedLog()).includes(name); tries += 1) {
    if (tries === 300) throw new Error(`${name} is not archived after 30 s`);
    await sleep(100);
  }
}

/** The result of a run that must have ended with 0. */
export function resultOf<T>(done: CliResult): T {
  const last = done.json.at(-1);
  if (done.exitCode === 0 && last?.type === 'result') return last.result as T;
  throw new Error(`exit ${done.exitCode ?? done.signal}\n${done.stdout}\n${done.stderr}`);
}

/** The error that a run ended with. */
export interface CliFailure {
  readonly exitCode: number | null;
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

export function failureOf(done: CliResult): CliFailure {
  const last = done.json.at(-1);
  if (last?.type !== 'error')
    throw new Error(`no error: exit ${done.exitCode}\n${done.stdout}\n${done.stderr}`);
  const text = (value: unknown): string => (typeof value === 'string' ? value : '');
  return {
    exitCode: done.exitCode,
    code: text(last.code),
    message: text(last.message),
    hint: text(last.hint),
  };
}

/** A shell command as the server's account, as a person would paste it. */
export async function shell(
  cluster: TestCluster,
  command: string,
): Promise<{ exitCode: number | null; output: string }> {
  const { user, directory } = cluster;
  const env = { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C' };
  const done = await runAs('/bin/sh', ['-c', command], { user, cwd: directory, env });
  return { exitCode: done.exitCode, output: `${done.stdout}${done.stderr}` };
}

/** A restored copy that runs; stopped at the end of its scope. */
export interface RunningCopy extends AsyncDisposable {
  readonly dataDirectory: string;
  connect(database?: string): Promise<pg.Client>;
}

/** Starts a restored copy with the command that the report gives, on a port that is free in the test. */
export async function openCopy(
  cluster: TestCluster,
  report: Pick<RestoreReport, 'copy'>,
): Promise<RunningCopy> {
  const { copy } = report;
  if (copy === null) throw new Error('it was restored in place');
  const reserved = await reservePort();
  const options = `-p ${reserved.port} -c fsync=off -c unix_socket_directories=''`;
  const started = await shell(cluster, `${copy.startCommand} -w -o "${options}"`);
  if (started.exitCode !== 0) {
    const log = await shell(cluster, `tail -20 '${copy.path}/server.log'`);
    throw new Error(`unable to start the copy: ${started.output}\n${log.output}`);
  }
  const clients: pg.Client[] = [];
  return {
    dataDirectory: copy.path,
    connect: async (database = 'postgres') => {
      const client = new pg.Client({ ...cluster.connection, port: reserved.port, database });
      client.on('error', () => undefined);
      await client.connect();
      clients.push(client);
      return client;
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.allSettled(clients.map(client => client.end()));
      await shell(
        cluster,
        `${join(cluster.binaries.binDirectory, 'pg_ctl')} -D '${copy.path}' -m immediate -w stop`,
      );
      reserved.release();
    },
  };
}
