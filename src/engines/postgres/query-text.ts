/** What the text of a statement shows of itself; what cannot be seen in it is null. */
export interface QueryFacts {
  /** Of the first statement that changes something: `DELETE`, `UPDATE`, `TRUNCATE`, `DROP TABLE`; null for anything else. */
  readonly statement: string | null;
  /** Of a DELETE or UPDATE. */
  readonly where: 'none' | 'always true' | 'some' | null;
  /** The text is as long as the server keeps them: its end may be missing. */
  readonly isCut: boolean;
}

/** @source PostgreSQL manual, track_activity_query_size: 1024 bytes with the final zero, unless it is set higher */
const KEPT_BYTES = 1023;

/**
 * One piece of SQL: a comment, a text, a number, a name, or anything else.
 * @source PostgreSQL manual, "Lexical Structure"; comments may nest, which is counted by hand
 */
const TOKEN =
  /(?<line>--[^\n]*)|(?<block>\/\*)|(?<dollar>\$(?<tag>[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$)|(?<escape>[eE]'(?:[^'\\]|\\[\s\S]|'')*(?:'|$))|(?<text>(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*(?:'|$))|(?<quoted>(?:[uU]&)?"(?:[^"]|"")*(?:"|$))|(?<word>[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*)|(?<number>\d[\w.]*|\.\d\w*)|(?<parameter>\$\d+)|(?<space>\s+)|(?<other>[\s\S])/y;

interface Token {
  readonly kind: 'comment' | 'value' | 'word' | 'quoted' | 'space' | 'other';
  readonly text: string;
}

function* tokensOf(sql: string): Generator<Token, void, undefined> {
  let at = 0;
  while (at < sql.length) {
    TOKEN.lastIndex = at;
    const found = TOKEN.exec(sql);
    const groups = found?.groups ?? {};
    let end = TOKEN.lastIndex;
    if (groups['block'] !== undefined) end = endOfComment(sql, at);
    if (groups['dollar'] !== undefined) {
      const close = sql.indexOf(groups['dollar'], end);
      end = close < 0 ? sql.length : close + groups['dollar'].length;
    }
    yield { kind: kindOf(groups), text: sql.slice(at, end) };
    at = end;
  }
}

function kindOf(groups: Readonly<Record<string, string | undefined>>): Token['kind'] {
  if (groups['line'] !== undefined || groups['block'] !== undefined) return 'comment';
  if (['dollar', 'escape', 'text', 'number'].some(name => groups[name] !== undefined)) return 'value';
  if (groups['word'] !== undefined) return 'word';
  if (groups['quoted'] !== undefined) return 'quoted';
  return groups['space'] === undefined ? 'other' : 'space';
}

function endOfComment(sql: string, start: number): number {
  let depth = 0;
  for (let at = start; at < sql.length; at += 1) {
    if (sql.startsWith('/*', at)) {
      depth += 1;
      at += 1;
    } else if (sql.startsWith('*/', at)) {
      depth -= 1;
      at += 1;
      if (depth === 0) return at + 1;
    }
  }
  return sql.length;
}

/**
 * A statement without anything that could be a value of a row: texts and numbers become `?`, comments go. An unfinished text
 * at the end, of a statement that was cut, is a text.
 */
export function maskQuery(sql: string): string {
  let masked = '';
  for (const { kind, text } of tokensOf(sql)) {
    if (kind === 'comment' || kind === 'space') masked += ' ';
    else masked += kind === 'value' ? '?' : text;
  }
  return masked.replace(/\s+/g, ' ').trim();
}

/** Reads what a statement does, as far as its text alone says it. */
export function readQuery(sql: string): QueryFacts {
  const isCut = Buffer.byteLength(sql) >= KEPT_BYTES;
  const tokens = [...tokensOf(sql)].filter(({ kind }) => kind !== 'comment' && kind !== 'space');
  const words = tokens.map(({ kind, text }) => (kind === 'word' ? text.toUpperCase() : null));
  const at = words.findIndex((_, index) => isChange(words, index));
  const statement = at < 0 ? null : nameOf(words.slice(at));
  if (statement !== 'DELETE' && statement !== 'UPDATE') return { statement, where: null, isCut };
  const { condition, isWhole } = conditionOf(tokens.slice(at));
  if (condition === null) return { statement, where: isCut && !isWhole ? null : 'none', isCut };
  return { statement, where: isAlwaysTrue(condition) ? 'always true' : 'some', isCut };
}

/** Words before an UPDATE that belongs to a statement of another kind: SELECT … FOR UPDATE, ON CONFLICT DO UPDATE. */
const BEFORE_OTHERS = new Set(['FOR', 'DO', 'ON', 'KEY', 'BEFORE', 'AFTER', 'OR', 'GRANT', 'REVOKE']);

function isChange(words: readonly (string | null)[], index: number): boolean {
  const word = words[index] ?? '';
  if (word === 'TRUNCATE' || word === 'DROP') return true;
  if (word === 'DELETE') return words[index + 1] === 'FROM';
  return word === 'UPDATE' && !BEFORE_OTHERS.has(words[index - 1] ?? '');
}

function nameOf([verb, object]: readonly (string | null)[]): string | null {
  if (verb === 'DROP') return object === null || object === undefined ? 'DROP' : `DROP ${object}`;
  return verb ?? null;
}

/** What follows the WHERE of the statement itself, not of a query within it; null: there is none. */
function conditionOf(tokens: readonly Token[]): {
  readonly condition: readonly string[] | null;
  /** The statement's end was seen. */
  readonly isWhole: boolean;
} {
  let depth = 0;
  let condition: string[] | null = null;
  for (const { kind, text } of tokens) {
    if (text === '(') depth += 1;
    if (text === ')') depth -= 1;
    if (depth < 0 || (depth === 0 && text === ';')) return { condition, isWhole: true };
    const word = kind === 'word' && depth === 0 ? text.toUpperCase() : null;
    if (condition !== null && word === 'RETURNING') return { condition, isWhole: true };
    if (condition !== null) condition.push(text);
    else if (word === 'WHERE') condition = [];
  }
  return { condition, isWhole: false };
}

/** `1 = 1`, `true`, `'a' = 'a'`: what people write who were told to write a WHERE. */
function isAlwaysTrue(condition: readonly string[]): boolean {
  const [left = '', operator, right] = condition;
  if (condition.length === 1) return /^(true|'t'|'true')$/i.test(left);
  const isConstant = /^(\d[\w.]*|'[^']*')$/.test(left);
  return condition.length === 3 && operator === '=' && left === right && isConstant;
}
