import { isPhrase } from '../../operations/sql/confirm-statement.ts';
import type { Question } from '../../operations/sql/sql-context.ts';
import { askLine } from '../confirm.ts';
import { questionText } from '../render/sql-page.ts';
import type { CommandRun } from '../run-command.ts';

export type Answer = 'yes' | 'no' | 'timeout' | 'nobody';

/** Asks with a line; `readLine` gives null where there is nobody. Only while an open transaction holds locks, the time for it is bounded. */
export async function askConfirmation(
  question: Question,
  {
    answerSeconds,
    signal,
    readLine,
  }: {
    readonly answerSeconds: number;
    readonly signal: AbortSignal;
    readonly readLine: (text: string, signal: AbortSignal) => Promise<string | null>;
  },
): Promise<Answer> {
  const timeout = question.holdsLocks ? AbortSignal.timeout(answerSeconds * 1000) : null;
  const stop = timeout === null ? signal : AbortSignal.any([signal, timeout]);
  try {
    const answer = await readLine(questionText(question), stop);
    if (answer === null) return 'nobody';
    return isPhrase(answer, question.phrase) ? 'yes' : 'no';
  } catch (error) {
    signal.throwIfAborted();
    if (timeout?.aborted === true) return 'timeout';
    throw error;
  }
}

/** Asks on the terminal of a command that is not a console itself. */
export async function askOnTerminal(
  run: CommandRun,
  question: Question,
  options: { readonly answerSeconds: number; readonly signal: AbortSignal },
): Promise<Answer> {
  const readLine = (text: string, signal: AbortSignal): Promise<string | null> =>
    askLine({ ...run, signal }, text);
  return await askConfirmation(question, { ...options, readLine });
}
