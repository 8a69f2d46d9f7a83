import { describe, expect, it } from 'vitest';
import { classOf } from '../../../src/engines/postgres/sql/statement-class.ts';
import type { TableEffect } from '../../../src/engines/postgres/sql/table-effects.ts';
import { isPhrase, phraseFor, reasonsToAsk } from '../../../src/operations/sql/confirm-statement.ts';
import {
  countChangedRows,
  isSameEffect,
  type StatementReport,
} from '../../../src/operations/sql/statement-report.ts';
import { blankReport } from '../../../src/operations/sql/statement-run.ts';

const limits = { maxRows: 1000, refusedByServer: false };
const deletion = classOf('write', 'DELETE', {
  dangers: ['without WHERE'],
  objects: [{ schema: 'a', name: 't' }],
});

function effect(more: Partial<TableEffect> = {}): TableEffect {
  return {
    oid: '1',
    table: 'public.t',
    inserted: 0,
    updated: 0,
    deleted: 0,
    whole: null,
    lostRows: null,
    isEstimate: false,
    isTemporary: false,
    ...more,
  };
}

function report(more: Partial<StatementReport> = {}): StatementReport {
  return { ...blankReport({ found: deletion, startedMs: 0 }, 'rolled back'), ...more };
}

describe('the rows that count', () => {
  it.each([
    [[effect({ inserted: 1, updated: 2, deleted: 3 })], 3, 6],
    [[effect({ deleted: 5, isTemporary: true })], 5, 0],
    [[effect({ inserted: 5, whole: 'created' })], 5, 0],
    // A foreign table counts nothing, the server's word does.
    [[], 7, 7],
    [[effect({ deleted: 2 })], 7, 7],
  ] as const)('%j, of which the server says %i - %i', (tables, tagRows, count) => {
    expect(countChangedRows(tables, tagRows)).toBe(count);
  });
});

describe('what is asked about', () => {
  it('no more than the limit - nothing; one more - asked', () => {
    const plain = classOf('write', 'DELETE');
    expect(reasonsToAsk(plain, report({ changedRows: 1000 }), limits)).toEqual([]);
    expect(reasonsToAsk(plain, report({ changedRows: 1001 }), limits)).toHaveLength(1);
  });

  it('a delete of everything that deleted nothing - is not asked about', () => {
    expect(reasonsToAsk(deletion, report(), limits)).toEqual([]);
    expect(reasonsToAsk(deletion, report({ changedRows: 1 }), limits)).toEqual(['without WHERE']);
  });

  it('code that dropped a table - is asked about, whatever its text says', () => {
    const tables = [effect({ whole: 'dropped' })];
    expect(reasonsToAsk(classOf('code', 'DO'), report({ tables }), limits)).toEqual([
      'it removes or empties public.t',
    ]);
  });

  it('what the server refuses by itself - is asked about', () => {
    const asked = reasonsToAsk(classOf('write', 'DELETE'), report(), { ...limits, refusedByServer: true });
    expect(asked).toHaveLength(1);
  });
});

describe('what has to be typed', () => {
  it.each([
    [deletion, report({ changedRows: 1234 }), '1234'],
    [deletion, null, 'a.t'],
    [classOf('code', 'DO'), report(), 'YES'],
    [
      classOf('definition', 'DROP TABLE', {
        objects: ['a', 'b', 'c', 'd'].map(name => ({ schema: null, name })),
      }),
      report(),
      '4 objects',
    ],
  ] as const)('%# - the number, else the name', (found, tried, phrase) => {
    expect(phraseFor(found, tried)).toBe(phrase);
  });

  it.each([
    ['1234', '1234', true],
    [' 1,234 ', '1234', true],
    ['1_234', '1234', true],
    ['12345', '1234', false],
    ['', '1234', false],
    ['a.t', 'a.t', true],
    ['A.T', 'a.t', false],
    ['at', 'a,t', false],
    ['y', 'YES', false],
  ])('%j for %j - %s', (answer, phrase, accepted) => {
    expect(isPhrase(answer, phrase)).toBe(accepted);
  });
});

describe('two runs of a statement', () => {
  const first = report({
    tag: 'DELETE 2',
    tables: [effect({ deleted: 2 }), effect({ table: 'public.o', deleted: 4 })],
  });

  it('the same rows of the same tables - are the same, in whatever order', () => {
    expect(isSameEffect(first, { ...first, tables: first.tables.toReversed(), xid: '9', seconds: 7 })).toBe(
      true,
    );
  });

  it('a row more, another table, another word of the server - are not', () => {
    expect(isSameEffect(first, { ...first, tables: [effect({ deleted: 2 })] })).toBe(false);
    const more = [effect({ deleted: 2 }), effect({ table: 'public.o', deleted: 5 })];
    expect(isSameEffect(first, { ...first, tables: more })).toBe(false);
    expect(isSameEffect(first, { ...first, tag: 'DELETE 3' })).toBe(false);
  });
});
