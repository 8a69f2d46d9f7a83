import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  clipRanges,
  commonRanges,
  gapsBetween,
  joinRanges,
  type Ranges,
  rangeBytes,
  splitRanges,
  uniteRanges,
} from '../../../src/operations/backup/ranges.ts';

const pairs = fc.array(fc.tuple(fc.nat(80), fc.nat(12)), { maxLength: 20 });

const bytesOf = (ranges: Ranges): Set<number> => {
  const bytes = new Set<number>();
  for (let index = 0; index < ranges.length; index += 2)
    for (let at = 0; at < ranges[index + 1]!; at += 1) bytes.add(ranges[index]! + at);
  return bytes;
};

const sorted = (bytes: Iterable<number>): number[] => [...bytes].sort((a, b) => a - b);

const pairsOf = (ranges: Ranges): [number, number][] =>
  Array.from({ length: ranges.length / 2 }, (_, index) => [ranges[2 * index]!, ranges[2 * index + 1]!]);

test('ranges in any order, overlapping or not - joined: the same bytes, ascending, apart, none empty', () => {
  fc.assert(
    fc.property(pairs, list => {
      const joined = joinRanges(list);
      expect(sorted(bytesOf(joined))).toEqual(sorted(bytesOf(list.flat())));
      for (let index = 0; index < joined.length; index += 2) {
        expect(joined[index + 1]).toBeGreaterThan(0);
        if (index > 0) expect(joined[index]).toBeGreaterThan(joined[index - 2]! + joined[index - 1]!);
      }
      expect(rangeBytes(joined)).toBe(bytesOf(joined).size);
    }),
  );
});

test('two lists of ranges - united and turned round as sets are', () => {
  fc.assert(
    fc.property(pairs, pairs, fc.nat(100), (a, b, size) => {
      const [one, two] = [joinRanges(a), joinRanges(b)];
      expect(sorted(bytesOf(uniteRanges(one, two)))).toEqual(
        sorted(new Set([...bytesOf(one), ...bytesOf(two)])),
      );
      const missing = Array.from({ length: size }, (_, at) => at).filter(at => !bytesOf(one).has(at));
      expect(sorted(bytesOf(gapsBetween(one, size)))).toEqual(missing);
      expect(sorted(bytesOf(clipRanges(one, size)))).toEqual(sorted(bytesOf(one)).filter(at => at < size));
    }),
  );
});

test('what two lists of ranges have in common - as of sets', () => {
  fc.assert(
    fc.property(pairs, pairs, (a, b) => {
      const [left, right] = [joinRanges(a), joinRanges(b)];
      const common = commonRanges(left, right);
      expect(sorted(bytesOf(common))).toEqual(sorted(bytesOf(left)).filter(at => bytesOf(right).has(at)));
      expect(common).toEqual(joinRanges(pairsOf(common)));
    }),
  );
});

test('ranges cut into lists - the same bytes in order, every list full but the last', () => {
  fc.assert(
    fc.property(pairs, fc.integer({ min: 1, max: 30 }), (list, bytes) => {
      const lists = splitRanges(joinRanges(list), bytes);
      expect(lists.flatMap(each => sorted(bytesOf(each)))).toEqual(sorted(bytesOf(list.flat())));
      for (const each of lists.slice(0, -1)) expect(rangeBytes(each)).toBe(bytes);
    }),
  );
});
