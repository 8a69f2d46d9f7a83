import { AppError } from '../../base/errors.ts';

export const changeKinds = ['delete', 'update', 'insert', 'truncate', 'drop'] as const;
export type ChangeKind = (typeof changeKinds)[number];

/** A transaction as people speak of it: `before the last delete on users`. */
export interface DescribedChange {
  readonly text: string;
  readonly change: ChangeKind;
  /** As it was written: `users`, `public.users` or `shop.public.users`; null: of any table. */
  readonly table: string | null;
  /** Which one, when there are several; `only`: then it is ambiguous. */
  readonly which: 'only' | 'last' | 'first';
  /** Only one that stands out. */
  readonly large: boolean;
  /** Just after it instead of just before. */
  readonly after: boolean;
}

const words = new Map<string, ChangeKind>([
  ['delete', 'delete'],
  ['deletion', 'delete'],
  ['deleting', 'delete'],
  ['update', 'update'],
  ['updating', 'update'],
  ['insert', 'insert'],
  ['inserting', 'insert'],
  ['load', 'insert'],
  ['copy', 'insert'],
  ['truncate', 'truncate'],
  ['truncation', 'truncate'],
  ['truncating', 'truncate'],
  ['drop', 'drop'],
  ['dropping', 'drop'],
]);

const pattern = new RegExp(
  String.raw`^(?:just\s+|right\s+)?(?<side>before|after)\s+` +
    String.raw`(?:the\s+)?(?:(?<which>last|latest|first)\s+)?(?:(?<large>mass|bulk|big|large)\s+)?` +
    `(?<word>${[...words.keys()].join('|')})` +
    String.raw`(?:\s+(?:(?:on|of|from|in|into|to)\s+)?(?:the\s+)?(?:table\s+|database\s+)?(?<table>\S(?:.*\S)?))?$`,
  'i',
);
/** `users`, `"Odd name"`, each part of a qualified one. */
const namePattern = /^(?:"(?:[^"]|"")+"|[^\s".]+)(?:\.(?:"(?:[^"]|"")+"|[^\s".]+)){0,2}$/u;

/**
 * Reads a description of a transaction; null when the text is none, and then it may be a time.
 *
 * @throws TIME_AMBIGUOUS it begins as one and cannot be read to its end
 */
export function parseDescribedChange(text: string): DescribedChange | null {
  const trimmed = text.trim().replace(/\s+/g, ' ');
  if (!/^(just |right )?(before|after)\b/i.test(trimmed)) return null;
  const found = pattern.exec(trimmed)?.groups;
  const table = found?.['table'] ?? null;
  if (found === undefined || trimmed.length > 300 || (table !== null && !namePattern.test(table))) {
    throw new AppError(
      'TIME_AMBIGUOUS',
      `unable to use the time '${text.slice(0, 300)}': it was not understood`,
      {
        hint: `Write it like 'before the delete on users', with one of ${changeKinds.join(', ')}; 'the last' or 'the first' chooses among several.`,
      },
    );
  }
  return {
    text: trimmed,
    change: words.get((found['word'] ?? '').toLowerCase()) ?? 'delete',
    table,
    which: whichOf(found['which']),
    large: found['large'] !== undefined,
    after: found['side']?.toLowerCase() === 'after',
  };
}

function whichOf(word: string | undefined): DescribedChange['which'] {
  if (word === undefined) return 'only';
  return word.toLowerCase() === 'first' ? 'first' : 'last';
}

/** The parts of a qualified name, from the right: table, schema, database. Quoted ones are taken literally. */
export function nameParts(table: string): readonly { readonly text: string; readonly quoted: boolean }[] {
  return [...table.matchAll(/"((?:[^"]|"")+)"|([^\s".]+)/gu)]
    .map(([, quoted, plain]) =>
      quoted === undefined
        ? { text: plain ?? '', quoted: false }
        : { text: quoted.replaceAll('""', '"'), quoted: true },
    )
    .reverse();
}
