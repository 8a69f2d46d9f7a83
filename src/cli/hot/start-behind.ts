import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { setPriority } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { lockHolder } from '../../base/process-lock.ts';
import { hasQueue } from '../../operations/log/archive-ahead.ts';
import { WAL_ARCHIVE_AHEAD } from './hot-arguments.ts';

/** What a call of wal-archive leaves to processes behind it, for which the server does not wait. */
export interface Behind {
  readonly instance: string;
  readonly configFile: string;
  readonly cacheDirectory: string;
}

/** The most that a call waits, once its own segment is archived, until those behind it can rely on the process it started. */
const ANNOUNCED_MS = 1000;
const LOWEST_PRIORITY = 19;

/** What only one process at a time may do for an instance. */
export function lockFor(what: 'archive-ahead' | 'summarize', of: Behind): string {
  const name = createHash('sha256')
    .update(`${of.instance} ${resolve(of.configFile)}`)
    .digest('hex');
  return join(of.cacheDirectory, `${what}-${name.slice(0, 16)}`);
}

/**
 * Starts what archives the queue behind a segment, if there is one and nobody does it yet. `args` are those of this call.
 *
 * @returns to be awaited when the segment itself is archived: the calls behind it then wait for that process instead of
 *   doing its work, unless something is wrong with it
 */
export function startArchivingAhead(
  of: Behind,
  call: { readonly args: readonly string[]; readonly path: string },
): { readonly settle: () => Promise<void> } | null {
  if (lockHolder(lockFor('archive-ahead', of)) !== null || !hasQueue(call.path)) return null;
  // The server's log is its standard error, and kept open by whoever has it: so it has none.
  const child = startBehind(
    call.args.map(arg => (arg === 'wal-archive' ? WAL_ARCHIVE_AHEAD : arg)),
    { cwd: process.cwd(), stdout: 'pipe' },
  );
  if (child === null) return null;
  const answered = new Promise<void>(done => {
    child.stdout?.once('data', done).once('close', done);
    child.once('error', () => done());
  });
  return {
    async settle() {
      await Promise.race([answered, sleep(ANNOUNCED_MS, undefined, { ref: false })]);
      child.stdout?.destroy();
    },
  };
}

/**
 * The summary of a segment takes as long to make as the segment to archive, and the server waits for this process: so
 * another one makes it, and those of all segments that have none yet, at the lowest priority. One at a time, and not while the
 * queue is archived ahead: what does that starts this at its end.
 */
export function startSummarizing(of: Behind): void {
  const lock = lockFor('summarize', of);
  if (process.env['AISHELL_SUMMARIES'] === 'later') return;
  if ([lock, lockFor('archive-ahead', of)].some(each => lockHolder(each) !== null)) return;
  const child = startBehind(
    [
      ...['backup', 'wal-summarize', '--config', resolve(of.configFile)],
      ...['--instance', of.instance, '--lock', lock],
    ],
    { cwd: '/', stdout: 'ignore' },
  );
  // Whatever becomes of it, the segment is archived; who needs a summary that is missing makes it.
  if (child?.pid === undefined) return;
  try {
    setPriority(child.pid, LOWEST_PRIORITY);
  } catch {
    // It has ended, or will lower its priority itself.
  }
}

/** Starts this program again, so that it lives on. */
function startBehind(
  args: readonly string[],
  options: { readonly cwd: string; readonly stdout: 'pipe' | 'ignore' },
): ChildProcess | null {
  const program = process.argv[1];
  if (program === undefined) return null;
  const child = spawn(process.execPath, [program, ...args], {
    cwd: options.cwd,
    detached: true,
    stdio: ['ignore', options.stdout, 'ignore'],
  });
  child.on('error', () => undefined).unref();
  return child;
}
