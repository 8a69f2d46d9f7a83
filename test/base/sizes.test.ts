import { expect, test } from 'vitest';
import { counted } from '../../src/base/sizes.ts';

test.each([
  [0, '0 files'],
  [1, '1 file'],
  [1267, '1,267 files'],
])('%i of a thing - %s', (count, text) => {
  expect(counted(count, 'file')).toBe(text);
});
