import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type LostRow, operationOf, RowHistory } from '../../../src/operations/lost/lost-rows.ts';

const relation = { key: 't', file: { tablespace: 1, database: 1, file: 16_400 } };

/** A table as it really is: which row, with which value, lies at which place. */
interface Truth {
  /** By place: the row that lies there, and what it rests on. */
  readonly live: Map<number, { readonly id: number; readonly onTop: boolean }>;
  readonly original: ReadonlyMap<number, number>;
}

type Step = readonly [act: 'insert' | 'update' | 'delete', choice: number];

const steps = fc.array(fc.tuple(fc.constantFrom<Step[0]>('insert', 'update', 'delete'), fc.nat(1000)), {
  maxLength: 60,
});

test('any changes of good transactions before and after a disaster - each row is what it has to be', () => {
  fc.assert(
    fc.property(steps, fc.nat(60), (all, disasterAt) => {
      const history = new RowHistory();
      const original = new Map([1, 2, 3, 4, 5, 6].map(id => [id, 65_536 + id] as const));
      const truth: Truth = {
        live: new Map([...original].map(([id, place]) => [place, { id, onTop: false }])),
        original,
      };
      /** What a row is to become: its place just before the disaster took it, or at the end. */
      const expected = new Map<number, { place: number | null; onTop: boolean }>();
      let nextId = 100;
      let free = 65_536 + 50;
      for (const [index, [act, choice]] of all.entries()) {
        // The disaster is one transaction in the middle; the others come before and after it.
        const isDisaster = index === disasterAt || index === disasterAt + 1;
        const by = isDisaster ? 'disaster' : index;
        const places = [...truth.live.keys()];
        const place = places[choice % Math.max(1, places.length)];
        if (act === 'insert' || place === undefined) {
          const id = nextId;
          nextId += 1;
          free += 1;
          history.apply(relation, { removed: null, created: [free] }, by);
          truth.live.set(free, { id, onTop: isDisaster });
          if (!isDisaster) expected.set(id, { place: free, onTop: false });
          continue;
        }
        const row = truth.live.get(place)!;
        truth.live.delete(place);
        if (act === 'update') free += 1;
        const created = act === 'update' ? [free] : [];
        history.apply(relation, { removed: place, created }, by);
        if (created[0] !== undefined)
          truth.live.set(created[0], { id: row.id, onTop: row.onTop || isDisaster });
        if (isDisaster) continue;
        // A number of its own for what goes on from the disaster: it is another row of the history.
        const id = row.onTop ? row.id + 10_000 : row.id;
        expected.set(id, { place: created[0] ?? null, onTop: row.onTop });
        if (row.onTop && created[0] !== undefined) truth.live.set(created[0], { id: row.id, onTop: true });
      }
      const key = ({ origin, place, isOnTop }: Pick<LostRow, 'origin' | 'place' | 'isOnTop'>): string =>
        JSON.stringify([isOnTop ? 'on top' : origin, place]);
      const found = history.rows.map(key).sort();
      const wanted = [...expected].map(([id, { place, onTop }]) =>
        key({ origin: original.get(id) ?? null, place, isOnTop: onTop }),
      );
      // Of what rests on the disaster, each change again may be a row of its own or the same: only its end counts.
      const onTop = (text: string): boolean => text.startsWith('["on top"');
      expect(found.filter(text => !onTop(text))).toEqual(wanted.filter(text => !onTop(text)).sort());
      expect(found.some(onTop)).toBe(wanted.some(onTop));
    }),
    { numRuns: 300 },
  );
});

test('places that are used again - the new row is another one', () => {
  const history = new RowHistory();
  history.apply(relation, { removed: null, created: [7] }, 0);
  history.apply(relation, { removed: 7, created: [] }, 1);
  history.apply(relation, { removed: null, created: [7] }, 2);
  history.apply(relation, { removed: 7, created: [8] }, 3);
  expect(history.rows.map(row => [operationOf(row), row.place, row.first, row.last])).toEqual([
    ['gone', null, 0, 1],
    ['insert', 8, 2, 3],
  ]);
});

test('copies that a rewrite has made - a change of one has no row that it was', () => {
  const history = new RowHistory();
  history.apply(relation, { removed: null, created: [1, 2, 3] }, 'rewrite');
  history.apply(relation, { removed: 2, created: [4] }, 0);
  history.apply(relation, { removed: 4, created: [] }, 1);
  expect(history.rows).toMatchObject([{ origin: 0, place: null, first: 0, last: 1 }]);
});
