import { appendFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AgentStatus } from '../../src/agent/agent-status.ts';
import { openConfiguredRepository } from '../../src/app/open-repository.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import { nextSegment, parseLsn, segmentName, segmentStart } from '../../src/engines/postgres/lsn.ts';
import { getLogFile } from '../../src/repository/log-archive.ts';
import type { Repository } from '../../src/repository/repository.ts';
import type { CliResult, JsonLine, RunningCli } from './cli.ts';
import { protect, resultOf, type TestInstance } from './instance.ts';
import type { TestCluster } from './postgres.ts';

/** `aishell agent run` of a test's instance. */
export interface TestAgent extends AsyncDisposable {
  /** Of the program itself, not of the shell that started it. */
  readonly pid: number;
  /** What it told so far. */
  notes(): readonly JsonLine[];
  /** Resolves with the first note of a topic; rejects when the agent ends before. */
  until(topic: string, timeoutMs?: number): Promise<JsonLine>;
  status(): Promise<AgentStatus>;
  signal(signal: NodeJS.Signals): void;
  /** SIGTERM, and its result. */
  stop(): Promise<CliResult>;
  /** SIGKILL. */
  kill(): Promise<void>;
  readonly done: Promise<CliResult>;
}

/** Starts the agent and waits until it streams, unless told otherwise. */
export async function startAgent(
  instance: TestInstance,
  options: {
    readonly args?: readonly string[];
    readonly waits?: boolean;
    readonly timeoutMs?: number;
    readonly env?: Readonly<Record<string, string>>;
  } = {},
): Promise<TestAgent> {
  const running: RunningCli = instance.start(['agent', 'run', ...(options.args ?? [])], {
    timeoutMs: options.timeoutMs ?? 280_000,
    ...(options.env === undefined ? {} : { env: options.env }),
  });
  const { pid } = running.process;
  if (pid === undefined) throw new Error('the agent did not start');
  let isOver = false;
  void running.done.then(
    () => {
      isOver = true;
    },
    () => {
      isOver = true;
    },
  );
  const notes = (): JsonLine[] =>
    running
      .stdout()
      .split('\n')
      .slice(0, -1)
      .filter(line => line.startsWith('{'))
      .map(line => JSON.parse(line) as JsonLine)
      .filter(line => line.type === 'note');
  const signal = (name: NodeJS.Signals): void => {
    if (!isOver) process.kill(pid, name);
  };
  const kill = async (): Promise<void> => {
    signal('SIGKILL');
    await running.done.catch(() => undefined);
  };
  const until = async (topic: string, timeoutMs = 30_000): Promise<JsonLine> => {
    const giveUpMs = performance.now() + timeoutMs;
    for (;;) {
      const found = notes().find(note => note['topic'] === topic);
      if (found !== undefined) return found;
      if (isOver || performance.now() > giveUpMs)
        throw new Error(`no note '${topic}' from the agent:\n${running.stdout()}\n${JSON.stringify(isOver)}`);
      await sleep(10);
    }
  };
  const agent: TestAgent = {
    pid,
    notes,
    until,
    status: async () => resultOf<AgentStatus>(await instance.run(['agent', 'status'])),
    signal,
    stop: async () => {
      signal('SIGTERM');
      return await running.done;
    },
    kill,
    done: running.done,
    [Symbol.asyncDispose]: kill,
  };
  if (options.waits !== false) {
    try {
      await until('streaming');
    } catch (error) {
      await kill();
      throw error;
    }
  }
  return agent;
}

/** Settings under which everything the server wrote stays in its pg_wal, to be compared with. */
export const keepsLog = { wal_keep_size: '4GB', max_wal_size: '4GB', min_wal_size: '64MB' };

/** Protects a server for which an agent will run, with a spool of its own beside its data directory. */
export async function protectWithAgent(
  cluster: TestCluster,
  options: {
    readonly archiving?: boolean;
    readonly agent?: Readonly<Record<string, string | number | boolean>>;
  } = {},
): Promise<TestInstance> {
  const instance = await protect(cluster, { archiving: options.archiving ?? false });
  const agent = { spool: instance.path('spool'), ...options.agent };
  await appendFile(instance.configFile, `\nagent: ${JSON.stringify(agent)}\n`);
  return instance;
}

/** The repository of an instance, opened by the test itself. */
export async function openRepositoryOf(instance: TestInstance): Promise<Repository> {
  const config = parseConfig(await readFile(instance.configFile, 'utf8'), instance.configFile);
  return await openConfiguredRepository(config, { env: {} });
}

/**
 * Compares every archived segment of a timeline, from `from` on without a hole, with the server's own pg_wal. Returns how
 * many there were.
 *
 * @throws Error for a hole, or the first difference
 */
export async function compareWithServer(
  instance: TestInstance,
  range: { readonly timeline: number; readonly from: bigint; readonly segmentSize: number },
): Promise<number> {
  const repository = await openRepositoryOf(instance);
  const { cluster } = instance;
  const { system_identifier: systemIdentifier } = (
    await cluster.query<{ system_identifier: string }>(
      'select system_identifier::text from pg_control_system()',
    )
  )[0]!;
  const owner = { instance: instance.name, systemIdentifier };
  const [row] = await cluster.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn');
  const end = segmentStart(parseLsn(row!.lsn), range.segmentSize);
  let count = 0;
  for (let lsn = range.from; lsn < end; lsn = nextSegment(lsn, range.segmentSize)) {
    const name = segmentName(range.timeline, lsn, range.segmentSize);
    const archived = await getLogFile(repository, owner, name);
    if (archived === null) throw new Error(`segment ${name} is not archived, ${count} before it are`);
    const own = await readFile(join(cluster.dataDirectory, 'pg_wal', name));
    if (Buffer.compare(own, archived) !== 0) throw new Error(`segment ${name} differs from the server's`);
    count += 1;
  }
  return count;
}

/** Ends the server's segment and waits until everything up to there is archived. */
export async function untilAllArchived(instance: TestInstance, timeoutMs = 30_000): Promise<string> {
  const [row] = await instance.cluster.query<{ name: string }>(
    "select pg_walfile_name(pg_switch_wal() - 1) as name from (select pg_create_restore_point('x')) x",
  );
  const giveUpMs = performance.now() + timeoutMs;
  while (!(await instance.archivedLog()).includes(row!.name)) {
    if (performance.now() > giveUpMs) {
      const { stdout } = await instance.run(['agent', 'status']);
      throw new Error(`${row!.name} is not archived: ${stdout}`);
    }
    await sleep(50);
  }
  return row!.name;
}
