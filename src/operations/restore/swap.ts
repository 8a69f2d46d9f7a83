import { chmod, open, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AppError, assert, fileError, messageOf } from '../../base/errors.ts';
import { syncDirectory } from '../../base/sync-directory.ts';
import { runningServer } from '../../engines/postgres/data-directory.ts';
import { shellQuote } from '../../engines/postgres/service-process.ts';

/** One directory that changes places: what is at `live` goes to `kept`, what is at `fresh` comes to `live`. */
export interface Move {
  readonly live: string;
  readonly fresh: string;
  readonly kept: string;
}

export interface SwapPlan {
  /** The data directory is the last. */
  readonly moves: readonly Move[];
  readonly startCommand: string;
  readonly stopCommand: string;
  /** Where the script is written that brings the old state back. */
  readonly scriptPath: string;
  /** Where the new state goes when the old one is brought back. */
  readonly asideSuffix: string;
}

/**
 * Exchanges the old state for the new one by renaming, after a script that undoes it was written: whatever happens from
 * here on, `sh <script>` brings the old state back and starts it. A move that fails is undone at once. Each is on the disk
 * before the next one, so that their order holds for a crash of the machine too, whatever file systems they are on.
 *
 * @throws TARGET_RUNNING something has started the old server again
 */
export async function swapDirectories(plan: SwapPlan): Promise<void> {
  const { data } = splitMoves(plan.moves);
  await refuseRunning(data.live);
  await writeScript(plan);
  const done: (readonly [from: string, to: string])[] = [];
  try {
    for (const [from, to] of renamesOf(plan)) {
      await rename(from, to);
      done.unshift([from, to]);
      for (const directory of new Set([dirname(to), dirname(from)])) await syncDirectory(directory);
      // None can be started there any more: one that was just before is seen now.
      if (from === data.live) await refuseRunning(data.kept);
    }
  } catch (error) {
    for (const [from, to] of done) await rename(to, from);
    if (error instanceof AppError) throw error;
    throw new AppError('FILE_FAILED', `unable to put the restored database in place: ${messageOf(error)}`, {
      hint: `The old state is where it was. Start it with: ${plan.startCommand}`,
      cause: error,
    });
  }
}

async function writeScript(plan: SwapPlan): Promise<void> {
  try {
    await writeFile(plan.scriptPath, goBackScript(plan), { mode: 0o700 });
    await chmod(plan.scriptPath, 0o700);
    const script = await open(plan.scriptPath, 'r');
    try {
      await script.sync();
    } finally {
      await script.close();
    }
    await syncDirectory(dirname(plan.scriptPath));
  } catch (error) {
    throw fileError('write', plan.scriptPath, error);
  }
}

async function refuseRunning(dataDirectory: string): Promise<void> {
  if ((await runningServer(dataDirectory)) === null) return;
  throw new AppError('TARGET_RUNNING', 'unable to exchange the live database: its server is running again', {
    hint: 'Nothing was exchanged. Keep whatever starts it by itself (a supervisor, a cluster manager) from doing so, then run the same command again.',
  });
}

/**
 * The data directory leaves first and comes last: wherever this is cut short, by a crash or a kill, there is no data
 * directory that a server could be started in, with tablespaces of another state.
 */
function renamesOf({ moves }: SwapPlan): (readonly [from: string, to: string])[] {
  const { data, tablespaces } = splitMoves(moves);
  return [
    [data.live, data.kept],
    ...tablespaces.flatMap(({ live, fresh, kept }) => [[live, kept] as const, [fresh, live] as const]),
    [data.fresh, data.live],
  ];
}

function splitMoves(moves: readonly Move[]): { readonly data: Move; readonly tablespaces: readonly Move[] } {
  const data = moves.at(-1);
  assert(data !== undefined, 'there is a data directory to swap');
  return { data, tablespaces: moves.slice(0, -1) };
}

/**
 * A shell script without any need of this program, for the worst moment. It works from wherever the exchange was cut
 * short, in the same order, and running it twice does no harm.
 */
export function goBackScript(plan: SwapPlan): string {
  const { data, tablespaces } = splitMoves(plan.moves);
  const aside = ({ live, kept }: Move): string =>
    `[ ! -e ${shellQuote(live)} ] || mv ${shellQuote(live)} ${shellQuote(`${kept}${plan.asideSuffix}`)}`;
  const back = ({ live, kept }: Move): string => `mv ${shellQuote(kept)} ${shellQuote(live)}`;
  const where = ({ kept }: Move, ...commands: string[]): string =>
    [`if [ -e ${shellQuote(kept)} ]; then`, ...commands.map(command => `  ${command}`), 'fi'].join('\n');
  const steps = [
    where(data, aside(data)),
    ...tablespaces.map(move => where(move, aside(move), back(move))),
    where(data, back(data)),
  ];
  const pidFile = shellQuote(`${data.live}/postmaster.pid`);
  return `#!/bin/sh
# Written by aishell before a restore. It brings back the state from before that restore and starts it.
# What the restore had put in place is kept beside it, with the ending ${plan.asideSuffix}.
set -eu
${plan.stopCommand} || true
# Never move the files of a server that runs: the first line of its pid file is its process.
if [ -e ${pidFile} ] && kill -0 "$(head -n 1 ${pidFile})" 2>/dev/null; then
  echo 'The server could not be stopped. Stop it, then run this again.' >&2
  exit 1
fi
${steps.join('\n')}
${plan.startCommand}
echo 'The state from before the restore is back.'
`;
}
