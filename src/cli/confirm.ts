import { createInterface } from 'node:readline/promises';
import { AppError } from '../base/errors.ts';
import type { CommandRun } from './run-command.ts';

/**
 * Asks for a phrase that says what will be overwritten, or takes it from a flag. It returns when it was given.
 * @throws CONFIRMATION_REQUIRED another answer, or nobody to ask
 */
export async function confirmPhrase(
  run: CommandRun,
  {
    phrase,
    question,
    given,
    flags,
  }: {
    readonly phrase: string;
    readonly question: string;
    readonly given: string | null;
    /** What says it without a question. */
    readonly flags: string;
  },
): Promise<void> {
  if (given === phrase) return;
  const refusal = (message: string, how: string): AppError =>
    new AppError('CONFIRMATION_REQUIRED', message, { hint: `Nothing was changed. ${how}.` });
  const again = `Type ${phrase} when asked, or give ${flags}`;
  if (given !== null)
    throw refusal(`unable to go on: --confirm says '${given}', and it must say '${phrase}'`, again);
  const answer = await askLine(run, question);
  if (answer === null)
    throw refusal(
      'unable to go on without a confirmation: there is no terminal to ask on',
      `Run it in a terminal, or give ${flags}`,
    );
  if (answer.trim() !== phrase) throw refusal(`unable to go on: the answer was not '${phrase}'`, again);
}

/** The line typed in answer to a question; null when there is no terminal, or its input ended. */
export async function askLine(
  { terminal, flags, signal, pause }: CommandRun,
  question: string,
): Promise<string | null> {
  if (terminal.stdin.isTTY !== true || terminal.stdout.isTTY !== true || flags.json === true) return null;
  pause();
  signal.throwIfAborted();
  const lines = createInterface({ input: terminal.stdin, output: terminal.stdout });
  const closed = Promise.withResolvers<null>();
  lines.once('close', () => closed.resolve(null));
  // In a terminal, readline takes Ctrl-C for itself: pass it on to whoever handles the process's own.
  lines.once('SIGINT', () => process.kill(process.pid, 'SIGINT'));
  try {
    return await Promise.race([lines.question(question, { signal }), closed.promise]);
  } finally {
    lines.close();
  }
}
