import type { Page } from './page.ts';

/** A line of a difference, with the sign that says where it is: in both, only before, only after, or left out here. */
export interface DiffLine {
  readonly sign: ' ' | '-' | '+' | '…';
  readonly text: string;
}

const CONTEXT_LINES = 3;
/** Above it the lines between are all shown as replaced: a configuration is never that long. */
const MOST_COMPARISONS = 4_000_000;

/** How two texts differ, line by line, with a few lines around each change; [] when they are the same. */
export function diffLines(before: string, after: string): readonly DiffLine[] {
  if (before === after) return [];
  const old = linesOf(before);
  const now = linesOf(after);
  let start = 0;
  while (start < old.length && start < now.length && old[start] === now[start]) start += 1;
  let end = 0;
  while (end < old.length - start && end < now.length - start && old.at(-1 - end) === now.at(-1 - end))
    end += 1;
  const changed = compare(old.slice(start, old.length - end), now.slice(start, now.length - end));
  return withContext([
    ...old.slice(0, start).map(text => ({ sign: ' ', text }) as const),
    ...changed,
    ...old.slice(old.length - end).map(text => ({ sign: ' ', text }) as const),
  ]);
}

export function drawDiff(page: Page, lines: readonly DiffLine[]): void {
  for (const { sign, text } of lines) {
    if (sign === '+') page.line(page.style.good(`+ ${text}`));
    else if (sign === '-') page.line(page.style.bad(`- ${text}`));
    else page.line(page.style.dim(`${sign} ${text}`.trimEnd()));
  }
}

function linesOf(text: string): readonly string[] {
  return text.replace(/\r?\n$/, '').split(/\r?\n/);
}

/** By the longest common subsequence. */
function compare(old: readonly string[], now: readonly string[]): readonly DiffLine[] {
  const removed = (text: string): DiffLine => ({ sign: '-', text });
  const added = (text: string): DiffLine => ({ sign: '+', text });
  if (old.length * now.length > MOST_COMPARISONS) return [...old.map(removed), ...now.map(added)];
  // lengths[i][j]: of the longest common subsequence of old from i and now from j.
  const lengths = Array.from({ length: old.length + 1 }, () => new Uint32Array(now.length + 1));
  const at = (i: number, j: number): number => lengths[i]?.[j] ?? 0;
  for (let i = old.length - 1; i >= 0; i -= 1)
    for (let j = now.length - 1; j >= 0; j -= 1)
      lengths[i]![j] = old[i] === now[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
  const lines: DiffLine[] = [];
  let i = 0;
  let j = 0;
  while (i < old.length || j < now.length) {
    if (i < old.length && j < now.length && old[i] === now[j]) {
      lines.push({ sign: ' ', text: old[i] ?? '' });
      i += 1;
      j += 1;
    } else if (j >= now.length || (i < old.length && at(i + 1, j) >= at(i, j + 1))) {
      lines.push(removed(old[i] ?? ''));
      i += 1;
    } else {
      lines.push(added(now[j] ?? ''));
      j += 1;
    }
  }
  return lines;
}

function withContext(lines: readonly DiffLine[]): readonly DiffLine[] {
  const isNear = lines.map((_, index) =>
    lines
      .slice(Math.max(0, index - CONTEXT_LINES), index + CONTEXT_LINES + 1)
      .some(({ sign }) => sign !== ' '),
  );
  return lines.flatMap((line, index) => {
    if (isNear[index]) return [line];
    return index === 0 || isNear[index - 1] ? [{ sign: '…', text: '' } as const] : [];
  });
}
