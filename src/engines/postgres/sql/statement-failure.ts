import { messageOf, systemCode } from '../../../base/errors.ts';

/** A statement's error in the server's words. */
export interface StatementFailure {
  readonly message: string;
  /** SQLSTATE, or the system's code of a broken connection. */
  readonly sqlState: string;
  readonly detail: string | null;
  readonly hint: string | null;
  /** Where in the statement, in characters from 1. */
  readonly position: number | null;
  /** In which function or trigger. */
  readonly context: string | null;
}

/** Takes the server's error apart. @source PostgreSQL manual, "Error and Notice Message Fields" */
export function failureOf(error: unknown): StatementFailure {
  const field = (name: string): string | null => {
    const value: unknown = typeof error === 'object' && error !== null ? Reflect.get(error, name) : null;
    return typeof value === 'string' && value !== '' ? value : null;
  };
  const position = Number(field('position') ?? Number.NaN);
  return {
    message: messageOf(error),
    sqlState: systemCode(error),
    detail: field('detail'),
    hint: field('hint'),
    position: Number.isInteger(position) && position > 0 ? position : null,
    context: field('where'),
  };
}

/** The line of a position and a caret below it, as psql draws them. */
export function markPosition(text: string, position: number): readonly [line: string, caret: string] {
  const characters = [...text];
  const at = Math.min(position - 1, characters.length);
  const before = characters.slice(0, at);
  const start = before.lastIndexOf('\n') + 1;
  const next = characters.indexOf('\n', at);
  const number = before.filter(each => each === '\n').length + 1;
  const label = `LINE ${number}: `;
  const line = characters.slice(start, next === -1 ? characters.length : next);
  // A long line is shown around the place.
  const from = Math.max(0, at - start - 50);
  const shown = line.slice(from, from + 90).map(each => (each === '\t' ? ' ' : each));
  const dots = from > 0 ? '…' : '';
  const end = from + 90 < line.length ? '…' : '';
  return [
    `${label}${dots}${shown.join('')}${end}`,
    `${' '.repeat(label.length + dots.length + at - start - from)}^`,
  ];
}
