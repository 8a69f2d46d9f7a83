import { spawn } from 'node:child_process';
import { readdir, readFile, readlink } from 'node:fs/promises';
import type { ServerUser } from '../src/engines/postgres/embedded-process.ts';

export interface Measurement {
  readonly wallMs: number;
  /** User and system time of the command and of every descendant it waited for; null for a part of a command. */
  readonly cpuMs: number | null;
  /**
   * The most memory the command and its descendants held at one time: every 100 ms the sum of their proportional set
   * sizes, so that pages they share count once; or the high-water mark of one of them, where that is more. A database
   * server that it starts to recover in is not counted: its memory is a matter of that server's settings.
   */
  readonly peakMemoryBytes: number | null;
  readonly output: string;
}

export interface MeasureOptions {
  readonly user: ServerUser | null;
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
}

// The shell's own `times` counts what its children, and theirs, have used; it needs no package. Its answer comes on
// descriptor 3, beside what the command prints.
const TIMED = '"$@"; status=$?; times >&3; exit $status';

/** Runs a command to its end. @throws Error with what it printed, when it exits with anything but 0 */
export async function measure(command: readonly string[], options: MeasureOptions): Promise<Measurement> {
  const startedAt = performance.now();
  const child = spawn('/bin/sh', ['-c', TIMED, 'sh', ...command], {
    cwd: options.cwd,
    env: options.env,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    ...(options.user === null ? {} : { uid: options.user.uid, gid: options.user.gid }),
  });
  const output: Buffer[] = [];
  const times: Buffer[] = [];
  child.stdout?.on('data', chunk => output.push(chunk));
  child.stderr?.on('data', chunk => output.push(chunk));
  child.stdio[3]?.on('data', chunk => times.push(chunk));
  const memory = watchMemory(child.pid ?? 0);
  const exitCode = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const wallMs = performance.now() - startedAt;
  const peakMemoryBytes = await memory.stop();
  const text = Buffer.concat(output).toString('utf8');
  if (exitCode !== 0) throw new Error(`'${command.join(' ')}' exited with ${exitCode}:\n${text}`);
  return { wallMs, cpuMs: parseTimes(Buffer.concat(times).toString('utf8')), peakMemoryBytes, output: text };
}

/** The second line of `times` is the children's: `0m1.230000s 0m0.120000s`. */
function parseTimes(text: string): number {
  const fields = [...(text.split('\n')[1] ?? '').matchAll(/(\d+)m([\d.]+)s/g)];
  if (fields.length !== 2) throw new Error(`unable to read the shell's times '${text}'`);
  return fields.reduce(
    (sum, [, minutes, seconds]) => sum + (Number(minutes) * 60 + Number(seconds)) * 1000,
    0,
  );
}

function watchMemory(root: number): { stop(): Promise<number> } {
  let peak = 0;
  let running = true;
  const watch = async (): Promise<void> => {
    while (running) {
      let together = 0;
      for (const pid of await descendantsOf(root)) {
        together += await fieldBytes(`/proc/${pid}/smaps_rollup`, 'Pss');
        peak = Math.max(peak, await fieldBytes(`/proc/${pid}/status`, 'VmHWM'));
      }
      peak = Math.max(peak, together);
      await new Promise(resolve => setTimeout(resolve, 100));
    }
  };
  const done = watch();
  return {
    async stop() {
      running = false;
      await done;
      return peak;
    },
  };
}

/** A process may start others from any of its threads. @source proc(5), /proc/pid/task/tid/children */
async function descendantsOf(pid: number): Promise<number[]> {
  const found: number[] = [];
  for (const thread of await readdir(`/proc/${pid}/task`).catch(() => [])) {
    const children = await readFile(`/proc/${pid}/task/${thread}/children`, 'utf8').catch(() => '');
    for (const child of children.split(' ').map(Number)) {
      if (child === 0 || (await isDatabaseServer(child))) continue;
      found.push(child, ...(await descendantsOf(child)));
    }
  }
  return found;
}

async function isDatabaseServer(pid: number): Promise<boolean> {
  return (await readlink(`/proc/${pid}/exe`).catch(() => '')).endsWith('/postgres');
}

/** A field in kB of a file below /proc; 0 once the process is gone. */
async function fieldBytes(path: string, name: string): Promise<number> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return Number(new RegExp(`^${name}:\\s*(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * 1024;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}
