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

const WIDTH = 90;

/** The account, and who has written it. */
export function drawExplanation(page: Page, explanation: Explanation | null): void {
  if (explanation === null) return;
  const { by, model, text, problem } = explanation;
  page.line();
  page.line(page.style.title('In plain words:'));
  for (const paragraph of text.split('\n'))
    for (const line of wrapped(paragraph)) page.line(line === '' ? '' : `  ${line}`);
  if (by === 'model' || problem !== null) page.line();
  if (by === 'model')
    page.line(
      page.style.dim(
        `  Written by a language model (${model}) from the facts above. It may be wrong; they count.`,
      ),
    );
  if (problem !== null) page.line(page.style.dim(`  Put together without a language model: ${problem}`));
}

function wrapped(paragraph: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of paragraph.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
