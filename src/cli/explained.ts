import type { Explained, Explanation } from '../explain/explain.ts';
import type { ModelSettings } from '../explain/model-settings.ts';
import type { Page } from './render/page.ts';
import type { CommandRun } from './run-command.ts';

/** Has facts put into words, where that is wanted. */
export async function explainFor(
  run: CommandRun,
  settings: ModelSettings | null,
  explained: Explained,
): Promise<Explanation> {
  const { explain } = await import('../explain/explain.ts');
  const { terminal, signal } = run;
  if (settings !== null)
    run.onEvent({
      type: 'note',
      level: 'info',
      message: `Asking ${settings.model} for an account in plain words…`,
    });
  return await explain(explained, settings, { env: terminal.env, signal });
}

/** The account, and who has written it. */
export function drawExplanation(page: Page, explanation: Explanation | null): void {
  if (explanation === null) return;
  const { by, model, text, problem } = explanation;
  page.line();
  page.line(page.style.title('In plain words:'));
  for (const paragraph of text.split('\n')) page.paragraph(paragraph, '  ');
  if (by === 'model' || problem !== null) page.line();
  if (by === 'model')
    page.line(
      page.style.dim(
        `  Written by a language model (${model}) from the facts above. It may be wrong; they count.`,
      ),
    );
  if (problem !== null) page.line(page.style.dim(`  Put together without a language model: ${problem}`));
}
