import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SettledPages } from '../../../src/engines/postgres/settled-pages.ts';

const relations = [
  { tablespace: 1663, database: 5, file: 16_400 },
  // The number of a file is not that of one relation alone.
  { tablespace: 1664, database: 5, file: 16_400 },
  { tablespace: 1663, database: 6, file: 16_400 },
  { tablespace: 1663, database: 5, file: 16_401 },
] as const;

const has = (pages: SettledPages, of: number, block: number): boolean => {
  const { tablespace, database, file } = relations[of]!;
  return pages.has(tablespace, database, file, block);
};

test('ranges of pages, but for those changed and not overwritten first - against a set', () => {
  const range = fc.record({
    of: fc.nat(3),
    first: fc.nat(40),
    length: fc.nat(40),
    changed: fc.uniqueArray(fc.tuple(fc.nat(90), fc.boolean()), { selector: ([block]) => block }),
  });
  const removal = fc.record({ of: fc.nat(3), block: fc.nat(100) });
  fc.assert(
    fc.property(fc.array(range), fc.array(removal), (ranges, removed) => {
      const pages = new SettledPages();
      const truth = new Set<string>();
      const known = new Set<number>();
      // As of the files of a relation: no two ranges have a page in common.
      const next = [0, 0, 0, 0];
      for (const { of, first, length, changed } of ranges) {
        const start = next[of]! + first;
        next[of] = start + length;
        const sorted = [...changed].sort(([a], [b]) => a - b);
        const relation = relations[of]!;
        pages.add(relation, start, start + length, {
          ...{
            relation,
            fork: 0,
            blocks: Uint32Array.from(sorted.map(([block]) => start + block - 20).filter(b => b >= 0)),
          },
          overwrittenFirst: Uint8Array.from(
            sorted.filter(([block]) => start + block - 20 >= 0).map(([, first]) => (first ? 1 : 0)),
          ),
        });
        known.add(of);
        for (let block = start; block < start + length; block += 1) {
          const change = changed.find(([at]) => start + at - 20 === block);
          if (change === undefined || change[1]) truth.add(`${of} ${block}`);
        }
      }
      for (const { of, block } of removed) {
        const { tablespace, database, file } = relations[of]!;
        pages.remove(tablespace, database, file, block);
        truth.delete(`${of} ${block}`);
      }
      expect(pages.isEmpty).toBe(ranges.length === 0);
      for (const [of, { tablespace, database, file }] of relations.entries()) {
        expect(pages.hasRelation(tablespace, database, file)).toBe(known.has(of));
        for (let block = 0; block < next[of]! + 60; block += 1)
          expect(has(pages, of, block)).toBe(truth.has(`${of} ${block}`));
      }
    }),
  );
});
