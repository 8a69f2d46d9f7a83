import { assert, messageOf } from '../../../base/errors.ts';
import { isTree, type Tree, treesOf, typed } from './sql-tree.ts';

/** One statement of an input. */
export interface ParsedStatement {
  /** As it was written, without the semicolon behind it and space around it. */
  readonly text: string;
  /** Where it begins in the input, in characters from 0. */
  readonly offset: number;
  /** `DeleteStmt`, …: the parser's name of it. */
  readonly type: string;
  readonly tree: Tree;
}

/** Why an input is no SQL. */
export interface SyntaxProblem {
  readonly message: string;
  /** Where, in characters from 0. */
  readonly position: number;
  /** It ended too early: more may make it whole. */
  readonly atEnd: boolean;
}

/** A word of an input. */
export interface Token {
  readonly text: string;
  /** In UTF-16 units of the input, so that `slice` takes it. */
  readonly start: number;
  readonly end: number;
  readonly kind: 'string' | 'comment' | 'word' | 'other';
}

export interface SqlParser {
  /** All statements of an input, or why it has none. */
  parse(input: string): readonly ParsedStatement[] | SyntaxProblem;
  /** The words of an input; null where it ends in the middle of one. */
  scan(input: string): readonly Token[] | null;
}

export function isProblem(parsed: readonly ParsedStatement[] | SyntaxProblem): parsed is SyntaxProblem {
  return !Array.isArray(parsed);
}

type Library = typeof import('libpg-query');

/**
 * PostgreSQL's own parser, of version 18, whose grammar takes what those of 14 to 17 take. It lexes strings as servers do
 * with `standard_conforming_strings` on.
 *
 * @source https://github.com/pganalyze/libpg_query
 */
export async function loadSqlParser(): Promise<SqlParser> {
  // CommonJS, which the bundle has only as the default of a dynamic import.
  const imported: Library & { readonly default?: Library } = await import('libpg-query');
  const library = imported.default ?? imported;
  await library.loadModule();
  return {
    parse: input => parse(library, input),
    scan: input => scan(library, input),
  };
}

function parse(library: Library, input: string): readonly ParsedStatement[] | SyntaxProblem {
  const nul = input.indexOf('\0');
  if (nul >= 0)
    return { message: 'a character of code zero cannot stand in SQL', position: nul, atEnd: false };
  // The library takes no empty text.
  if (input.trim() === '') return [];
  let result: unknown;
  try {
    result = library.parseSync(input);
  } catch (error) {
    // Anything else (a stack that overflows) says nothing about the input but that it is not understood.
    const position = library.hasSqlDetails(error) ? (error.sqlDetails?.cursorPosition ?? 0) : 0;
    const message = messageOf(error);
    return { message, position, atEnd: /at end of input$|^unterminated /.test(message) };
  }
  assert(isTree(result), 'the SQL parser gave no tree');
  const bytes = Buffer.from(input);
  return treesOf(result['stmts']).map(each => statementOf(each, bytes));
}

function statementOf(raw: unknown, bytes: Buffer): ParsedStatement {
  const found = isTree(raw) ? typed(raw['stmt']) : null;
  assert(isTree(raw) && found !== null, 'the SQL parser gave a statement without a tree');
  const start = Number(raw['stmt_location'] ?? 0);
  const length = Number(raw['stmt_len'] ?? 0);
  const written = bytes.toString('utf8', start, length === 0 ? bytes.length : start + length);
  const text = written.trim();
  const before =
    bytes.toString('utf8', 0, start) + written.slice(0, written.length - written.trimStart().length);
  return { text, offset: [...before].length, type: found.type, tree: found.node };
}

function scan(library: Library, input: string): readonly Token[] | null {
  if (input.trim() === '') return [];
  let result: ReturnType<Library['scanSync']>;
  try {
    result = library.scanSync(input);
  } catch {
    return null;
  }
  const bytes = Buffer.from(input);
  let unit = 0;
  let byte = 0;
  const unitsTo = (position: number): number => {
    unit += bytes.toString('utf8', byte, position).length;
    byte = position;
    return unit;
  };
  return result.tokens.map(token => {
    const start = unitsTo(token.start);
    const end = unitsTo(token.end);
    const text = input.slice(start, end);
    return { text, start, end, kind: kindOf(text, token) };
  });
}

function kindOf(
  text: string,
  { tokenName, keywordKind }: { readonly tokenName: string; readonly keywordKind: number },
): Token['kind'] {
  if (/COMMENT$/.test(tokenName)) return 'comment';
  if (/^(?:[A-Za-z]&?)?'|^\$\D?.*\$/s.test(text)) return 'string';
  return keywordKind !== 0 || tokenName === 'IDENT' || /^(?:[Uu]&)?"/.test(text) ? 'word' : 'other';
}

/**
 * Whether an input that is typed line by line is whole: it ends with a semicolon that ends a statement, and not in the
 * middle of a string, a comment or the body of a function.
 */
export function isWholeInput(parser: SqlParser, input: string): boolean {
  const last = parser.scan(input)?.findLast(token => token.kind !== 'comment');
  if (last?.text !== ';') return false;
  const parsed = parser.parse(input);
  return !isProblem(parsed) || !parsed.atEnd;
}
