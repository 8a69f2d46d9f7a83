import { stripVTControlCharacters } from 'node:util';

/** Narrower than this, a line is left to the terminal: hardly a word would fit beside its indent. */
const NARROWEST = 40;
/** How far a column of a list may reach for what is broken to go on below it. */
const COLUMN_WITHIN = 40;

/** Cut at spaces into lines of at most `width` characters; a word that is longer stays whole. */
export function wrapWords(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

/**
 * A line of a page in lines that fit into a terminal. It is broken at spaces and goes on below the text it began with,
 * behind its mark or column. What is to be copied is never cut: commands, and what stands in quotes.
 *
 * @param columns of the terminal; null where the output is none: then every line stays whole
 */
export function wrapLine(line: string, columns: number | null): readonly string[] {
  if (columns === null || columns < NARROWEST) return [line];
  if (line.includes('\n')) return line.split('\n').flatMap(each => wrapLine(each, columns));
  const text = stripVTControlCharacters(line);
  if (widthOf(text) <= columns || isVerbatim(text)) return [line];
  const hang = hangOf(text, columns);
  const lines: string[] = [];
  let current = '';
  for (const part of partsOf(line)) {
    const isFirst = lines.length === 0;
    const room = isFirst ? columns : columns - hang;
    const isEmpty = stripVTControlCharacters(current).trim() === '';
    if (!isEmpty && widthOf(stripVTControlCharacters(`${current} ${part}`)) > room) {
      lines.push(isFirst ? current : `${' '.repeat(hang)}${current}`);
      current = part;
    } else current = current === '' ? part : `${current} ${part}`;
  }
  return lines.length === 0 ? [line] : [...lines, `${' '.repeat(hang)}${current}`];
}

/** A command behind its prompt; tables, and the place of a mistake that PostgreSQL points at: their columns are their meaning. */
function isVerbatim(text: string): boolean {
  return /^\s*(?:[│┌├└|]|\$ )/.test(text) || /^LINE \d+:/.test(text);
}

/** Where a line goes on: behind its mark or its columns, else a little further in than it began. */
function hangOf(text: string, columns: number): number {
  const indent = /^ */.exec(text)?.[0].length ?? 0;
  const mark = /^ *(?:⚠️ {1,2}|[✓✗✅💡!→…-] +|\d+\. )/u.exec(text)?.[0];
  const column = /^.*\S {2,}(?=\S)/.exec(text.slice(0, COLUMN_WITHIN))?.[0];
  const hang = Math.max(
    indent + 2,
    mark === undefined ? 0 : widthOf(mark),
    column === undefined ? 0 : widthOf(column),
  );
  return hang * 2 > columns ? indent + 2 : hang;
}

/** The pieces of a line that stay whole. Joined by single spaces they are the line. */
function partsOf(line: string): string[] {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a command may be printed in another style
  const command = /(?:^ *|: |→ )(?:\u001b\[\d+m)?(?:aishell|psql|sh|\/\S+) .*$/.exec(line);
  const from = command === null ? line.length : command.index + command[0].search(/[^ :→]/);
  const parts: string[] = [];
  const indent = /^ */.exec(line)?.[0] ?? '';
  for (const piece of line.slice(indent.length, from).match(/(?:(?<![^\s(])'[^']*'|`[^`]*`|[^ ])+| +/g) ??
    []) {
    // More than one space keeps the columns of a list apart.
    if (/^ +$/.test(piece)) {
      if (piece.length > 1 && parts.length > 0) parts[parts.length - 1] += piece.slice(1);
    } else parts.push(piece);
  }
  if (from < line.length) parts.push(line.slice(Math.max(from, indent.length)));
  return [`${indent}${parts[0] ?? ''}`, ...parts.slice(1)];
}

/** Columns of a terminal that a text takes: two for most pictures and for the signs of East Asia. */
function widthOf(text: string): number {
  let width = 0;
  for (const character of text) {
    if (/\p{Mn}|\u200d/u.test(character)) continue;
    width += /\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uff00-\uff60]/u.test(character)
      ? 2
      : 1;
  }
  return width;
}
