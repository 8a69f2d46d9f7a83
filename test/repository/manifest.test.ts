import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { FRAME_BODY_BYTES } from '../../src/repository/compression.ts';
import { manifestPath, newBackupId } from '../../src/repository/layout.ts';
import type { BackupFacts, Chunk, ManifestLine, PackFacts } from '../../src/repository/manifest.ts';
import { listBackupIds, manifestLines, openManifest } from '../../src/repository/manifest-reader.ts';
import { ManifestWriter } from '../../src/repository/manifest-writer.ts';
import type { Repository } from '../../src/repository/repository.ts';
import { SealedWriter } from '../../src/repository/sealed-writer.ts';
import { collect, memoryRepository } from './memory-repository.ts';
import { packedLine } from './packed-line.ts';
import { writeBackup } from './write-backup.ts';

// Enough for a machine that is busy with other tests.
vi.setConfig({ testTimeout: 60_000 });

/** Writes a manifest of any lines for a backup that there is, as somebody who has the key could. */
async function readBack(repository: Repository, lines: readonly object[]): Promise<ManifestLine[]> {
  return await readText(repository, lines.map(line => `${JSON.stringify(line)}\n`).join(''));
}

async function readText(repository: Repository, text: string): Promise<ManifestLine[]> {
  const { backup, packs } = await writeBackup(repository, [{ path: 'a', bytes: randomBytes(100) }]);
  const id = newBackupId(new Date(), randomBytes(3));
  const path = manifestPath('production', id);
  const writer = new SealedWriter({ kind: 'manifest', path, keyring: repository.keyring, level: 3 });
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += FRAME_BODY_BYTES)
    writer.addFrame(bytes.subarray(at, at + FRAME_BODY_BYTES));
  writer.finish({ backup: { ...backup, id }, packs });
  await repository.storage.put(path, writer.take());
  const opened = await openManifest(repository, { instance: 'production', id });
  return collect(manifestLines(repository, opened!));
}

/** The same by the writer that backups use. */
async function writeAndRead(
  repository: Repository,
  written: { readonly lines: readonly ManifestLine[]; readonly packs: readonly PackFacts[] },
): Promise<ManifestLine[]> {
  const { backup } = await writeBackup(repository, []);
  const id = newBackupId(new Date(), randomBytes(3));
  const manifest = await ManifestWriter.create(repository, { instance: 'production', id });
  for (const line of written.lines) await manifest.add(packedLine(line));
  await manifest.commit({ ...backup, id }, written.packs);
  await manifest.close();
  const opened = await openManifest(repository, { instance: 'production', id });
  return collect(manifestLines(repository, opened!));
}

const corrupt = { code: 'CORRUPT' };

test.each([
  { tablespaceVersionDirectory: '../..' },
  { tablespaceVersionDirectory: '' },
  { tablespaces: [{ oid: '../../etc' as unknown as number, name: 'fast', path: '/mnt/fast' }] },
])('facts that lead out of their directories %j - refused', async hostile => {
  const repository = memoryRepository();
  const { backup } = await writeBackup(repository, []);
  const id = newBackupId(new Date(), randomBytes(3));
  const manifest = await ManifestWriter.create(repository, { instance: 'production', id });
  await manifest.commit({ ...backup, id, ...hostile } as BackupFacts, []);
  await manifest.close();
  await expect(openManifest(repository, { instance: 'production', id })).rejects.toMatchObject(corrupt);
});

test('any lines, through several frames - come back as they were, whatever crosses a frame', async () => {
  const name = fc.stringMatching(/^[a-zäöü€😀 ]{1,40}$/u);
  const path = fc
    .array(name, { minLength: 1, maxLength: 5 })
    .map(segments => segments.map(each => `x${each}`).join('/'));
  await fc.assert(
    fc.asyncProperty(fc.array(path, { minLength: 1, maxLength: 30 }), async paths => {
      const lines = Array.from({ length: 1500 }, (_, n) => ({
        t: 'dir' as const,
        p: `${paths[n % paths.length]}/${'ü'.repeat(400)}${n}`,
        m: 0o700,
      }));
      expect(await writeAndRead(memoryRepository(), { lines, packs: [] })).toEqual(lines);
    }),
    { numRuns: 4 },
  );
});

test('a line longer than two frames - comes back whole', async () => {
  const lines: ManifestLine[] = [
    { t: 'dir', p: 'before', m: 0o700 },
    { t: 'config', p: 'postgresql.conf', source: `/etc/${'€'.repeat(900_000)}`, s: 0, m: 0o600, c: [] },
    { t: 'dir', p: 'after', m: 0o700 },
  ];
  expect(await writeAndRead(memoryRepository(), { lines, packs: [] })).toEqual(lines);
});

const number = fc.oneof(fc.nat(9), fc.nat(100_000), fc.integer({ min: 0, max: 2 ** 32 - 1 }));
const chunks = fc.array(
  fc.record({ numbers: fc.tuple(number, number, number), hash: fc.stringMatching(/^[\w-]{0,22}$/) }),
  { maxLength: 40 },
);
const packs = Array.from({ length: 12 }, (_, index) => ({
  ...{ id: `p${index}`, backup: 'b', generation: 1, sizeBytes: 1, sha256: '' },
}));

test('any chunks, few or a hundred thousand, with and without hashes - come back as they were', async () => {
  await fc.assert(
    fc.asyncProperty(chunks, fc.constantFrom(1, 3000), fc.boolean(), async (list, times, hashed) => {
      const c = Array.from({ length: times }, () => list)
        .flat()
        .map(({ numbers: [frame, offset, stored], hash }, index): Chunk => {
          const length = (index * 977) % 1_048_577;
          return [length, index % 12, frame, offset, stored, 2 ** 32 - 1, offset % 9999, hashed ? hash : ''];
        });
      const s = c.reduce((sum, [length]) => sum + length, 0);
      // What only looks like the chunks of the line.
      const p = 'a/"c":[1]';
      const lines: ManifestLine[] = [
        { t: 'file', p, s, m: 0o600, c },
        { t: 'config', source: '"c":[', p, s, m: 0o600, c },
      ];
      expect(await writeAndRead(memoryRepository(), { lines, packs })).toEqual(lines);
    }),
    { numRuns: 30 },
  );
});

test('lines in other JSON: spaces, members in another order and unknown ones - mean the same', async () => {
  const c = [[40, 0, 0, 40, 117, 100, 60, 'x']];
  const line = { t: 'file', p: 'a', s: 40, m: 0o600, c };
  const texts = [
    JSON.stringify(line).replaceAll(',', ' , ').replaceAll('[', '[ '),
    JSON.stringify({ c, m: 0o600, s: 40, p: 'a', t: 'file' }),
    JSON.stringify(line).replace('40,0', '4e1,0'),
  ];
  for (const text of texts) expect(await readText(memoryRepository(), `${text}\n`)).toEqual([line]);
  for (const more of [{ x: { c: [[1]] } }, { x: { c }, y: [{ c: [] }] }]) {
    expect(await readBack(memoryRepository(), [{ ...line, ...more }])).toEqual([{ ...line, ...more }]);
    expect(await readBack(memoryRepository(), [{ ...more, ...line }])).toEqual([{ ...more, ...line }]);
  }
});

test.each([
  '/etc/passwd',
  '../a',
  'a/../../b',
  'a/..',
  '..',
  '.',
  './a',
  'a/./b',
  'a//b',
  'a/',
  '',
  '\\a',
  'a\\..\\b',
  'a\0b',
  'base/5/\0',
])('the path %j - refused, in a line of every kind', async p => {
  for (const line of [
    { t: 'dir', p, m: 0o700 },
    { t: 'file', p, s: 0, m: 0o600, c: [] },
    { t: 'config', p, source: '/etc/x', s: 0, m: 0o600, c: [] },
  ])
    await expect(readBack(memoryRepository(), [line])).rejects.toMatchObject(corrupt);
});

test('paths with dots, spaces and other letters - taken', async () => {
  const lines = ['...', '..a', 'a..', '.hidden', 'a b', 'grüße', '-rf', '$(x)'].map(p => ({
    t: 'dir',
    p,
    m: 0o700,
  }));
  expect(await readBack(memoryRepository(), lines)).toEqual(lines);
});

const chunk = [100, 0, 0, 40, 117, 100, 0, 'AAAAAAAAAAAAAAAAAAAAAA'];
test.each([
  ['a pack that is not named', 100, [100, 1, 0, 40, 117, 100, 0, 'x']],
  ['pack -1', 100, [100, -1, 0, 40, 117, 100, 0, 'x']],
  ['more than the frame has', 101, [101, 0, 0, 40, 117, 100, 0, 'x']],
  ['what is behind the frame', 50, [50, 0, 0, 40, 117, 100, 51, 'x']],
  ['what is before the frame', 50, [50, 0, 0, 40, 117, 100, -1, 'x']],
  ['less than nothing', -1, [-1, 0, 0, 40, 117, 100, 0, 'x']],
  ['less than its size', 101, chunk],
  ['more than its size', 99, chunk],
  ['a number that no pack has', 100, [100, 0, 0, 2 ** 32, 117, 100, 0, 'x']],
  ['half a byte', 99.5, [99.5, 0, 0, 40, 117, 100, 0, 'x']],
  ['a text for a number', 100, ['100', 0, 0, 40, 117, 100, 0, 'x']],
  ['six numbers', 100, [100, 0, 0, 40, 117, 100, 'x']],
  ['a hash that is none', 100, [100, 0, 0, 40, 117, 100, 0, 7]],
  ['a hash with more behind it', 100, [100, 0, 0, 40, 117, 100, 0, '"],[']],
])('a file of %s - refused', async (_, s, c) => {
  await expect(
    readBack(memoryRepository(), [{ t: 'file', p: 'a', s, m: 0o600, c: [c] }]),
  ).rejects.toMatchObject(corrupt);
});

test('paths that no reader takes - not written either', async () => {
  const repository = await memoryRepository();
  const manifest = await ManifestWriter.create(repository, {
    instance: 'production',
    id: newBackupId(new Date(), randomBytes(3)),
  });
  for (const p of ['core\\x2d1', 'a/../b', '/a', ''])
    for (const line of [
      { t: 'dir', p, m: 0o700 },
      { t: 'file', p, s: 0, m: 0o600, c: [] },
    ] as const)
      await expect(manifest.add(packedLine(line)), p).rejects.toMatchObject(corrupt);
  await manifest.close();
});

test('a part of a frame - taken', async () => {
  const line = { t: 'file', p: 'a', s: 40, m: 0o600, c: [[40, 0, 0, 40, 117, 100, 60, 'x']] };
  expect(await readBack(memoryRepository(), [line])).toEqual([line]);
});

test('a line of an unknown kind, an unknown engine - UNSUPPORTED', async () => {
  const repository = memoryRepository();
  await expect(readBack(repository, [{ t: 'link', p: 'a', to: '/etc' }])).rejects.toMatchObject({
    code: 'UNSUPPORTED',
  });
  const id = 'backup_20251027_140532_abc123';
  await writeBackup(repository, [], { facts: { id, engine: 'mysql' as 'postgresql' } });
  await expect(openManifest(repository, { instance: 'production', id })).rejects.toMatchObject({
    code: 'UNSUPPORTED',
  });
});

test('lines that are cut off, not in UTF-8 or no JSON - refused', async () => {
  const repository = memoryRepository();
  const { backup } = await writeBackup(repository, []);
  for (const content of [
    Buffer.from('{"t":"dir","p":"a","m":448}\n{"t":"dir"'),
    Buffer.from([0xff, 0x0a]),
    Buffer.from('{"t":"dir","p":"a","m":448}\n\xc3', 'latin1'),
    Buffer.from('{}}\n'),
  ]) {
    const id = newBackupId(new Date(), randomBytes(3));
    const path = manifestPath('production', id);
    const writer = new SealedWriter({ kind: 'manifest', path, keyring: repository.keyring, level: 3 });
    writer.addFrame(content);
    writer.finish({ backup, packs: [] });
    await repository.storage.put(path, writer.take());
    const manifest = await openManifest(repository, { instance: 'production', id });
    await expect(collect(manifestLines(repository, manifest!))).rejects.toMatchObject(corrupt);
  }
});

test('a commit - nothing is listed before it, and an id is taken once', async () => {
  const repository = memoryRepository();
  const { backup } = await writeBackup(repository, []);
  const first = await ManifestWriter.create(repository, {
    instance: 'production',
    id: 'backup_20251027_140533_abc124',
  });
  await first.add({ t: 'dir', p: 'a', m: 0o700 });
  expect(await listBackupIds(repository, 'production')).toEqual([backup.id]);
  const facts = { ...backup, id: 'backup_20251027_140533_abc124' };
  await first.commit(facts, []);
  await first.close();
  expect((await listBackupIds(repository, 'production')).length).toBe(2);
  const second = await ManifestWriter.create(repository, facts);
  await expect(second.commit(facts, [])).rejects.toMatchObject({ code: 'EXISTS' });
  await second.close();
});

test('ids of backups - oldest first, whatever their type; other names are no backups', async () => {
  const repository = memoryRepository();
  const ids = [
    'full_20241231_235959_ffffff',
    'backup_20250101_000000_000000',
    'backup_20250101_000001_000000',
  ];
  for (const id of [ids[2]!, ids[0]!, ids[1]!]) await writeBackup(repository, [], { facts: { id } });
  for (const other of ['tmp', 'backup_20250101_000001_00000g', 'backup_20250101_000001_000000.bak'])
    await repository.storage.put(manifestPath('production', other), new Uint8Array(1));
  expect(await listBackupIds(repository, 'production')).toEqual(ids);
  expect(await listBackupIds(repository, 'productio')).toEqual([]);
});

test('no place for temporary files - refused with its path; a body that is read twice is the same', async () => {
  const backup = { instance: 'production', id: 'backup_20251027_140532_abc123' };
  vi.stubEnv('TMPDIR', '/nonexistent');
  const create = ManifestWriter.create(memoryRepository(), backup);
  await expect(create).rejects.toMatchObject({
    code: 'FILE_FAILED',
    message: expect.stringContaining('/nonexistent'),
  });
  vi.unstubAllEnvs();
  const repository = memoryRepository();
  const put: Repository['storage']['put'] = async (key, body, options) => {
    if (!(body instanceof Uint8Array)) for await (const _ of body.open()) break;
    return await repository.storage.put(key, body, options);
  };
  await writeBackup(
    { ...repository, storage: { ...repository.storage, put } },
    [{ path: 'a', bytes: randomBytes(9) }],
    { facts: backup },
  );
  expect((await openManifest(repository, backup))?.backup.id).toBe(backup.id);
});
