import { describe, expect, it } from 'vitest';
import { isProblem, isWholeInput, loadSqlParser } from '../../../../src/engines/postgres/sql/sql-parser.ts';
import { markPosition } from '../../../../src/engines/postgres/sql/statement-failure.ts';

const parser = await loadSqlParser();

function texts(input: string): readonly string[] {
  const parsed = parser.parse(input);
  if (isProblem(parsed)) throw new Error(parsed.message);
  return parsed.map(({ text }) => text);
}

describe('an input', () => {
  it.each([
    ['', []],
    [' ;; -- nothing\n ;', []],
    ['select 1; ; select 2', ['select 1', 'select 2']],
    ["select 'a;b';\n-- c;\nselect $$;$$;", ["select 'a;b'", 'select $$;$$']],
    ["select 'ä😀' ; delete from t", ["select 'ä😀'", 'delete from t']],
    ['create function f() returns int begin atomic select 1; select 2; end; select 3', 2],
  ])('%j - is split as the server would', (input, expected) => {
    if (typeof expected === 'number') expect(texts(input)).toHaveLength(expected);
    else expect(texts(input)).toEqual(expected);
  });

  it('a mistake behind other letters - its place is in characters', () => {
    expect(parser.parse("select 'ä😀' wher e")).toMatchObject({ position: 17, atEnd: false });
    expect(markPosition("select 'ä'\n  wher e", 19)).toEqual(['LINE 2:   wher e', `${' '.repeat(15)}^`]);
  });

  it('a code of zero - is no SQL', () => {
    expect(parser.parse('select 1\0; drop table t')).toMatchObject({ position: 8 });
  });

  it('nesting without end - is an answer, and the next input is read', () => {
    const deep = parser.parse(`select ${'('.repeat(100_000)}1${')'.repeat(100_000)}`);
    expect(isProblem(deep) || deep.length === 1).toBe(true);
    expect(texts('select 1')).toEqual(['select 1']);
  });
});

describe('lines that are typed', () => {
  it.each([
    ['select 1', false],
    ['select 1;', true],
    ['select 1; -- done', true],
    ['select 1; select', false],
    ["select 'a;", false],
    ['select $$;', false],
    ['select $a$;$$;', false],
    ['/* ; */', false],
    ['/* ;', false],
    ['select "a;', false],
    ['create function f() returns int begin atomic select 1;', false],
    ['create function f() returns int begin atomic select 1; end;', true],
    ['select (1;', true],
    ['nonsense;', true],
    [';', true],
  ])('%j - whole: %s', (input, whole) => {
    expect(isWholeInput(parser, input)).toBe(whole);
  });
});
