import { expect, test } from 'vitest';
import { withoutStandby, withStandby } from '../../src/agent/synchronous-names.ts';

const ours = 'aishell_shop';

test('with the agent - it is required, and as many others as before', () => {
  expect(withStandby('', ours)).toBe('FIRST 1 ("aishell_shop")');
  expect(withStandby('s1, s2', ours)).toBe('FIRST 2 ("aishell_shop", "s1", "s2")');
  expect(withStandby('2 (s1, s2,s3)', ours)).toBe('FIRST 3 ("aishell_shop", "s1", "s2", "s3")');
  expect(withStandby('first 1 ("a ""b"", c", *)', ours)).toBe('FIRST 2 ("aishell_shop", "a ""b"", c", *)');
  expect(withStandby('*', ours)).toBe('FIRST 2 ("aishell_shop", *)');
  // Names are compared as the server compares them.
  expect(withStandby('FIRST 2 (AISHELL_Shop, s1)', ours)).toBe('FIRST 2 (AISHELL_Shop, s1)');
  expect(() => withStandby('ANY 1 (s1, s2)', ours)).toThrow(/'ANY 1 \(s1, s2\)'/);
});

test('without it - the others as before, nothing when it was alone', () => {
  for (const setting of ['', 's1, s2', '2 (s1, s2,s3)', 'first 1 ("a ""b"", c", *)', 'ANY 1 (s1, s2)'])
    expect(withoutStandby(setting, ours)).toBe(setting);
  expect(withoutStandby('FIRST 1 ("aishell_shop")', ours)).toBe('');
  expect(withoutStandby('FIRST 3 ("aishell_shop", "s1", "s2", "s3")', ours)).toBe(
    'FIRST 2 ("s1", "s2", "s3")',
  );
  expect(withoutStandby('aishell_shop, s1', ours)).toBe('FIRST 1 ("s1")');
  expect(withoutStandby('ANY 2 (s1, aishell_shop)', ours)).toBe('ANY 1 ("s1")');
});
