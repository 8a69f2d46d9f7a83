import type { Style } from './style.ts';
import { drawTable } from './table.ts';
import { wrapLine, wrapWords } from './wrap.ts';

export const RULE = '━'.repeat(50);
/** Longer lines of prose are hard to read. */
const PROSE_WIDTH = 92;

/** A line of a section: a fact with its name, or a line as it is. */
export type Line = readonly [label: string, value: string | null] | string;

/** Text in the look of the tutorial, put together piece by piece. */
export interface Page {
  readonly style: Style;
  line(text?: string): void;
  /** Prose, broken between words also where there is no terminal. */
  paragraph(text: string, indent?: string): void;
  /** A line that must not be broken where it is longer than the terminal is wide, such as one of a script. */
  verbatim(text: string): void;
  /** A heading with the rule below it. */
  title(text: string): void;
  /** `Name:` and its lines, indented, after an empty line. Facts of which nothing is known (null) are left out. */
  section(name: string, lines: readonly Line[]): void;
  /** A line `✓ text`. */
  check(text: string): void;
  /** Rows with a border; where that is wider than the terminal, each row on lines of its own. */
  table(head: readonly string[], rows: readonly (readonly string[])[]): void;
}

/**
 * What a page of text is written to, a line at a time and without its line end.
 *
 * @param columns of the terminal that it is for; null where it is for none
 */
export function createPage(style: Style, write: (line: string) => void, columns: number | null = null): Page {
  const line = (text = ''): void => {
    for (const part of wrapLine(text, columns)) write(part);
  };
  return {
    style,
    line,
    paragraph(text, indent = '') {
      const width = Math.min(columns ?? PROSE_WIDTH, PROSE_WIDTH) - indent.length;
      for (const part of wrapWords(text, width)) write(part === '' ? '' : `${indent}${part}`);
    },
    verbatim: write,
    title(text) {
      line(style.title(text));
      line(style.dim(RULE));
      line();
    },
    section(name, lines) {
      const shown = lines.filter(item => typeof item === 'string' || item[1] !== null);
      if (shown.length === 0) return;
      line();
      line(style.title(`${name}:`));
      for (const item of shown) line(typeof item === 'string' ? `  ${item}` : `  ${item[0]}: ${item[1]}`);
    },
    check: text => line(`  ${style.good('✓')} ${text}`),
    table(head, rows) {
      for (const text of drawTable(head, rows, { style, columns })) write(text);
    },
  };
}

/** A text that comes from outside, on one line and without what could steer the terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it is about
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, '�');
}

/** A text cut to a width, with an ellipsis. */
export function truncate(text: string, width: number): string {
  const characters = [...text];
  return characters.length <= width ? text : `${characters.slice(0, width - 1).join('')}…`;
}
