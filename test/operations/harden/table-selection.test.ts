import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quoteIdentifier } from '../../../src/engines/postgres/connection-errors.ts';
import type { GuardFacts, GuardTable } from '../../../src/engines/postgres/guard-facts.ts';
import { selectTables, splitTableNames } from '../../../src/operations/harden/table-selection.ts';

function factsWith(names: readonly (readonly [schema: string, name: string])[]): GuardFacts {
  const tables: GuardTable[] = names.map(([schema, name]) => ({
    ...{ schema, name, quoted: `${quoteIdentifier(schema)}.${quoteIdentifier(name)}` },
    ...{ owned: true, hasForeignParts: false, triggers: [] },
  }));
  return { tables, measures: [] } as unknown as GuardFacts;
}

const chosen = (facts: GuardFacts, ...tables: string[]): string[] =>
  selectTables(facts, 'mass-write', { tables }).named.map(({ schema, name }) => `${schema}|${name}`);

describe('names of tables', () => {
  it('a list with quotes, commas and dots inside of them - is split where SQL would', () => {
    expect(splitTableNames('a, b.c,"x,y"."z""," ,,')).toEqual(['a', 'b.c', '"x,y"."z"","']);
    expect(splitTableNames(' , ')).toEqual([]);
  });

  it('capital letters - are folded outside of quotes, and found as they are spelled', () => {
    const facts = factsWith([
      ['public', 'Users'],
      ['public', 'orders'],
      ['Odd.Schema', 'a.b'],
    ]);
    expect(chosen(facts, 'ORDERS')).toEqual(['public|orders']);
    expect(chosen(facts, '"Users"')).toEqual(['public|Users']);
    expect(chosen(facts, 'public.Users')).toEqual(['public|Users']);
    expect(chosen(facts, 'Odd.Schema.a.b')).toEqual(['Odd.Schema|a.b']);
    expect(() => chosen(facts, 'odd.orders')).toThrow(/unable to find the table 'odd.orders'/);
  });

  it('any name, quoted - is that table and no other', () => {
    const name = fc.string({
      minLength: 1,
      maxLength: 10,
      unit: fc.constantFrom('a', 'B', '"', '.', ',', ' ', 'é'),
    });
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.tuple(name, name), { minLength: 1, selector: pair => pair.join('|') }),
        names => {
          const facts = factsWith(names);
          const typed = names.map(
            ([schema, table]) => `${quoteIdentifier(schema)}.${quoteIdentifier(table)}`,
          );
          expect(chosen(facts, ...splitTableNames(typed.join(',')))).toEqual(
            names.map(([schema, table]) => `${schema}|${table}`),
          );
        },
      ),
    );
  });
});
