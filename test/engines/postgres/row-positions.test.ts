import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RowPositions } from '../../../src/engines/postgres/row-positions.ts';

const place = fc.tuple(fc.oneof(fc.nat(70), fc.nat(0xffff_fffe)), fc.integer({ min: 1, max: 291 }));
const places = fc.array(place, { maxLength: 200 });

function positionsOf(list: readonly (readonly [number, number])[]): RowPositions {
  const positions = new RowPositions();
  for (const [block, offset] of list) positions.add(block, offset);
  return positions;
}

function listed(positions: RowPositions, limit = 1000): string[] {
  return [...positions.batches(limit)].flat().map(({ block, offset }) => `${block},${offset}`);
}

/** In the order of a file, each once. */
function ordered(list: readonly (readonly [number, number])[]): string[] {
  const sorted = [...list].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  return [...new Set(sorted.map(([block, offset]) => `${block},${offset}`))];
}

test('positions added in any order, some twice - are there once each, in the order of the file', () => {
  fc.assert(
    fc.property(places, list => {
      const positions = positionsOf(list);
      expect(listed(positions)).toEqual(ordered(list));
      expect(positions.size).toBe(ordered(list).length);
      for (const [block, offset] of list) expect(positions.has(block, offset)).toBe(true);
    }),
  );
});

test('positions taken out - the others stay, and it says how many went', () => {
  fc.assert(
    fc.property(places, places, (all, taken) => {
      const positions = positionsOf(all);
      const gone = new Set(ordered(taken));
      const left = ordered(all).filter(each => !gone.has(each));
      expect(positions.subtract(positionsOf(taken))).toBe(ordered(all).length - left.length);
      expect(listed(positions)).toEqual(left);
      expect(positions.size).toBe(left.length);
    }),
  );
});

test('batches - none is larger than asked for, none is empty', () => {
  const positions = positionsOf(Array.from({ length: 25 }, (_, n) => [n % 3, n + 1] as const));
  expect([...positions.batches(10)].map(batch => batch.length)).toEqual([10, 10, 5]);
  expect([...new RowPositions().batches(10)]).toEqual([]);
});
