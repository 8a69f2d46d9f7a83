import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { ErrorRecord } from '../../src/base/errors.ts';

export interface ChildTask {
  readonly do: 'put' | 'put-twenty' | 'put-for-ever' | 'get' | 'list' | 'delete';
  readonly root: string;
  readonly key?: string;
  readonly sizeBytes?: number;
  readonly seed?: number;
  /** As this user; only root can. */
  readonly uid?: number;
}

export interface ChildOutcome {
  readonly result?: unknown;
  readonly error?: ErrorRecord;
  readonly signal: NodeJS.Signals | null;
}

export interface Child {
  readonly process: ChildProcessWithoutNullStreams;
  /** Resolves when it is about to begin, and waits for `begin`. */
  readonly ready: Promise<void>;
  begin(): void;
  readonly ended: Promise<ChildOutcome>;
}

/** Starts a process that does one task on a local storage. */
export function startChild(task: ChildTask, faults?: object): Child {
  const path = fileURLToPath(new URL('./storage-child.ts', import.meta.url));
  const child = spawn(process.execPath, [path, JSON.stringify(task)], {
    env: { ...process.env, AISHELL_STORAGE_FAULTS: faults === undefined ? '' : JSON.stringify(faults) },
  });
  const ready = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<ChildOutcome>();
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', chunk => {
    stdout += chunk;
    if (stdout.includes('ready\n')) ready.resolve();
  });
  child.stderr.on('data', chunk => {
    stderr += chunk;
  });
  child.stdin.on('error', () => undefined);
  child.on('close', (_, signal) => {
    const line = stdout.split('\n').at(-2) ?? '';
    if (signal !== null) ended.resolve({ signal });
    else if (line.startsWith('{')) ended.resolve({ ...JSON.parse(line), signal });
    else ended.reject(new Error(`the child ended without a result: ${stderr}`));
    ready.resolve();
  });
  return { process: child, ready: ready.promise, begin: () => child.stdin.end(), ended: ended.promise };
}

/** Runs a task to its end. */
export async function runChild(task: ChildTask, faults?: object): Promise<ChildOutcome> {
  const child = startChild(task, faults);
  child.begin();
  return await child.ended;
}
