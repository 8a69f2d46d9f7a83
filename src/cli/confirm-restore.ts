import { confirmPhrase } from './confirm.ts';
import type { CommandRun } from './run-command.ts';

/**
 * Asks both questions of the tutorial before a database is overwritten, or takes their answers from
 * `--confirm "restore <instance>" --yes`.
 * @throws CONFIRMATION_REQUIRED
 */
export async function confirmRestore(
  run: CommandRun,
  { instance, confirm }: { readonly instance: string; readonly confirm: string | undefined },
): Promise<void> {
  const phrase = `restore ${instance}`;
  await confirmPhrase(run, {
    phrase,
    question: `Do you want to proceed? Type '${phrase}' to confirm:\n> `,
    given: confirm ?? null,
  });
  await confirmPhrase(run, {
    phrase: 'YES',
    question: "Type 'YES' to proceed: ",
    given: run.flags.yes === true ? 'YES' : null,
  });
}
