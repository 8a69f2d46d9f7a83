import { setTimeout as sleep } from 'node:timers/promises';
import type { AgentStatus } from '../../src/agent/agent-status.ts';
import type { CliResult, JsonLine, RunningCli } from './cli.ts';
import { resultOf, type TestInstance } from './instance.ts';

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
  options: { readonly args?: readonly string[]; readonly waits?: boolean; readonly timeoutMs?: number } = {},
): Promise<TestAgent> {
  const running: RunningCli = instance.start(['agent', 'run', ...(options.args ?? [])], {
    timeoutMs: options.timeoutMs ?? 280_000,
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
