import { confirmPhrase } from './confirm.ts';
import type { CommandRun } from './run-command.ts';

/** The first question before a database is overwritten. @throws CONFIRMATION_REQUIRED */
export async function confirmRestore(
  run: CommandRun,
  { instance, confirm }: { readonly instance: string; readonly confirm: string | undefined },
): Promise<void> {
  const phrase = `restore ${instance}`;
  const question = `Do you want to proceed? Type '${phrase}' to confirm:\n> `;
  await confirmPhrase(run, {
    phrase,
    question,
    given: confirm ?? null,
    flags: `--confirm "${phrase}" --yes`,
  });
}

/** The second, when everything is checked. @throws CONFIRMATION_REQUIRED */
export async function confirmReady(run: CommandRun): Promise<void> {
  const question = "Ready to restore. Type 'YES' to proceed: ";
  await confirmPhrase(run, {
    phrase: 'YES',
    question,
    given: run.flags.yes === true ? 'YES' : null,
    flags: '--yes',
  });
}
