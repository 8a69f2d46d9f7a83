import { expect, test } from 'vitest';
import { readSpans } from '../../../src/operations/rewind/byte-ranges.ts';

const KIB = 1024;
const spans = (ranges: number[], spanBytes: number): object[] => [...readSpans(ranges, spanBytes)];

test('ranges near each other - are read at once, those far away apart', () => {
  const page = 8 * KIB;
  const far = 1024 * KIB;
  expect(spans([0, page, 3 * page, page, far, page], 512 * KIB)).toEqual([
    {
      at: 0,
      length: 4 * page,
      ranges: [
        [0, page],
        [3 * page, page],
      ],
    },
    { at: far, length: page, ranges: [[far, page]] },
  ]);
  expect(spans([], 100)).toEqual([]);
});

test('a range longer than a span, and one that would not end in it - are cut', () => {
  expect(spans([10, 250, 270, 100], 100)).toEqual([
    { at: 10, length: 100, ranges: [[10, 100]] },
    { at: 110, length: 100, ranges: [[110, 100]] },
    {
      at: 210,
      length: 100,
      ranges: [
        [210, 50],
        [270, 40],
      ],
    },
    { at: 310, length: 60, ranges: [[310, 60]] },
  ]);
});
