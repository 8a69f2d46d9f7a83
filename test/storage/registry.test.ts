import { expect, test } from 'vitest';
import { describeLocation, openStorage, parseStorageLocation } from '../../src/storage/registry.ts';

test.each([
  ['/var/backups/aishell', '/var/backups/aishell'],
  ['/var/backups/../x//y/', '/var/x/y'],
  ['/with space/ä:b', '/with space/ä:b'],
  ['file:///var/backups', '/var/backups'],
  ['FILE:///a%20b', '/a b'],
  ['file://localhost/a', '/a'],
])('the location %j - the directory %j', (text, path) => {
  expect(parseStorageLocation(text)).toEqual({ kind: 'local', path });
});

test.each([
  '',
  'backups',
  './backups',
  '~/backups',
  '/',
  '/..',
  '/a\0b',
  'file://host/a',
  'file:///a?b',
  'file:///a#b',
  'file:///a%2Fb',
])('the location %j - refused with how to write it', text => {
  expect(() => parseStorageLocation(text)).toThrow(
    expect.objectContaining({ code: 'USAGE', hint: expect.stringContaining('/var/backups/aishell') }),
  );
});

test.each(['s3://bucket/path', 'gs://bucket', 'azure://x', 'https://user:hunter2@host/x', 'memory:x'])(
  'the location %j - UNSUPPORTED, says what is, and repeats no password',
  text => {
    expect(() => parseStorageLocation(text)).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED', hint: expect.stringContaining('file://') }),
    );
    expect(() => parseStorageLocation(text)).not.toThrow('hunter2');
  },
);

test('the description of a location - as that of the storage opened there', () => {
  for (const location of [
    { kind: 'local', path: '/a/b' },
    { kind: 'memory', name: 'x' },
  ] as const) {
    expect(describeLocation(location)).toBe(openStorage(location, {}).description);
  }
});
