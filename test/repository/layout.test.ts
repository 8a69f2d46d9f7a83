import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  checkInstanceName,
  checkRestorePath,
  identityPath,
  isBackupId,
  logPath,
  manifestPath,
  newBackupId,
  packPath,
  slotPath,
} from '../../src/repository/layout.ts';
import { isKeySegment } from '../../src/storage/key.ts';

test('where objects lie - as docs/format.md has it', () => {
  expect([
    slotPath(1, '0011223344556677'),
    identityPath('shop', '7566'),
    manifestPath('shop', 'backup_20251027_140532_abc123'),
    packPath('shop', 'backup_20251027_140532_abc123', 'f'.repeat(32)),
    logPath({ instance: 'shop', systemIdentifier: '7566' }, '0000000A0000000000000003'),
    logPath({ instance: 'shop', systemIdentifier: '7566' }, '00000002.history'),
  ]).toEqual([
    'keys/0001/0011223344556677.json',
    'instances/shop/identity/7566',
    'instances/shop/backups/backup_20251027_140532_abc123',
    `instances/shop/packs/backup_20251027_140532_abc123/${'f'.repeat(32)}`,
    'instances/shop/log/7566/0000000A/0000000A0000000000000003',
    'instances/shop/log/7566/00000002/00000002.history',
  ]);
});

test('names of instances - those that are taken are segments of a key', () => {
  for (const name of ['production', 'a', '0', 'shop-2.eu_west', 'a'.repeat(63)])
    expect(checkInstanceName(name)).toBe(name);
  for (const name of ['', 'A', '.', '..', '.a', '-a', '_a', 'a/b', 'a b', 'ä', 'a\n', 'a'.repeat(64)])
    expect(() => checkInstanceName(name), name).toThrow(expect.objectContaining({ code: 'USAGE' }));
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 70 }), name => {
      try {
        checkInstanceName(name);
      } catch {
        return;
      }
      expect(isKeySegment(name)).toBe(true);
    }),
  );
});

test('ids of backups - sort by time, are segments of a key, and known again', () => {
  const time = fc.date({
    min: new Date('2000-01-01T00:00:00Z'),
    max: new Date('2999-12-31T23:59:59Z'),
    noInvalidDate: true,
  });
  fc.assert(
    fc.property(time, time, fc.uint8Array({ minLength: 3, maxLength: 3 }), (a, b, random) => {
      const [first, second] = [newBackupId(a, random), newBackupId(b, random)];
      expect(isBackupId(first) && isKeySegment(first)).toBe(true);
      const seconds = (date: Date): number => Math.floor(date.getTime() / 1000);
      expect(Math.sign(seconds(a) - seconds(b))).toBe(first < second ? -1 : first > second ? 1 : 0);
    }),
  );
  expect(newBackupId(new Date('2025-10-27T14:05:32.999Z'), new Uint8Array([0xab, 0xc1, 0x23]))).toBe(
    'backup_20251027_140532_abc123',
  );
});

test('a path to restore - taken only when no reading of it leads out of the directory', () => {
  const piece = fc.constantFrom('..', '.', '', 'a', 'b c', '\\', '\0', '...', '~', 'C:');
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 6 }), pieces => {
      const path = pieces.join('/');
      const isHostile =
        path.startsWith('/') ||
        pieces.length === 0 ||
        pieces.some(each => ['..', '.', '', '\\', '\0'].includes(each));
      if (isHostile)
        expect(() => checkRestorePath(path), path).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
      else expect(checkRestorePath(path)).toBe(path);
    }),
    { numRuns: 500 },
  );
});
