import { chmod, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AppError, fileError, messageOf } from '../../base/errors.ts';

/** One directory that changes places: what is at `live` goes to `kept`, what is at `fresh` comes to `live`. */
export interface Move {
  readonly live: string;
  readonly fresh: string;
  readonly kept: string;
}

export interface SwapPlan {
  /** In the order of the moves; the data directory is the last. */
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
 * here on, `sh <script>` brings the old state back and starts it. A move that fails is undone at once.
 */
export async function swapDirectories(plan: SwapPlan): Promise<void> {
  await writeFile(plan.scriptPath, goBackScript(plan), { mode: 0o700 }).catch((error: unknown) => {
    throw fileError('write', plan.scriptPath, error);
  });
  await chmod(plan.scriptPath, 0o700);
  const done: (readonly [from: string, to: string])[] = [];
  try {
    for (const { live, fresh, kept } of plan.moves) {
      for (const [from, to] of [
        [live, kept],
        [fresh, live],
      ] as const) {
        await rename(from, to);
        done.unshift([from, to]);
      }
    }
  } catch (error) {
    for (const [from, to] of done) await rename(to, from);
    throw new AppError('FILE_FAILED', `unable to put the restored database in place: ${messageOf(error)}`, {
      hint: `The old state is where it was. Start it with: ${plan.startCommand}`,
      cause: error,
    });
  }
}

/** A shell script without any need of this program, for the worst moment. Running it twice does no harm. */
export function goBackScript(plan: SwapPlan): string {
  const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
  const moves = [...plan.moves].reverse().map(({ live, kept }) => {
    const aside = `${dirname(kept)}/${kept.slice(kept.lastIndexOf('/') + 1)}${plan.asideSuffix}`;
    return [
      `if [ -e ${quote(kept)} ]; then`,
      `  [ ! -e ${quote(live)} ] || mv ${quote(live)} ${quote(aside)}`,
      `  mv ${quote(kept)} ${quote(live)}`,
      'fi',
    ].join('\n');
  });
  return `#!/bin/sh
# Written by aishell before a restore. It brings back the state from before that restore and starts it.
# What the restore had put in place is kept beside it, with the ending ${plan.asideSuffix}.
set -eu
${plan.stopCommand} || true
${moves.join('\n')}
${plan.startCommand}
echo 'The state from before the restore is back.'
`;
}
