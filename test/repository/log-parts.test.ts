import fc from 'fast-check';
import { expect, test } from 'vitest';
import { logPath } from '../../src/repository/layout.ts';
import {
  archivedReach,
  getLogFile,
  listLogParts,
  putLogFile,
  putLogPart,
} from '../../src/repository/log-archive.ts';
import { joinableParts, parsePartName, partName, reachOf } from '../../src/repository/log-parts.ts';
import { memoryRepository } from './memory-repository.ts';

const MIB = 1024 * 1024;
const owner = { instance: 'production', systemIdentifier: '7566129433051829306' };
const segment = '000000010000000000000003';

/** Bytes that begin like a segment of 1 MiB and are all different from each other's neighbours. */
function content(): Uint8Array {
  const bytes = new Uint8Array(MIB).map((_, index) => (index * 31 + (index >>> 8)) & 0xff);
  new DataView(bytes.buffer).setUint32(32, MIB, true);
  return bytes;
}

const bytes = content();

async function archivedPieces(
  ranges: readonly (readonly [number, number])[],
): Promise<ReturnType<typeof memoryRepository>> {
  const repository = memoryRepository();
  for (const [from, to] of ranges)
    await putLogPart(repository, { ...owner, segment, from, bytes: bytes.subarray(from, to), level: null });
  return repository;
}

const parts = (ranges: readonly (readonly [number, number])[]) =>
  ranges.map(([from, to]) => parsePartName(partName(segment, from, to))!);

test('a name of a piece - says segment and bytes; others are none', () => {
  expect(parsePartName(`${segment}.00000000-00012000.part`)).toMatchObject({ segment, from: 0, to: 0x12000 });
  for (const name of [
    segment,
    `${segment}.partial`,
    `${segment}.00000028.backup`,
    `${segment}.00000010-00000010.part`,
    `${segment}.00000020-00000010.part`,
    `${segment}.0-10.part`,
    `${segment.slice(1)}.00000000-00012000.part`,
  ])
    expect(parsePartName(name)).toBeNull();
});

test('pieces of any ranges - joined they reach as far as bytes are covered from 0 on, with none to spare', () => {
  const range = fc
    .tuple(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 1, max: 10 }))
    .map(([from, length]) => [from, from + length] as const);
  fc.assert(
    fc.property(fc.array(range, { maxLength: 12 }), ranges => {
      const covered = new Set(
        ranges.flatMap(([from, to]) => Array.from({ length: to - from }, (_, n) => from + n)),
      );
      let reach = 0;
      while (covered.has(reach)) reach += 1;
      const all = parts(ranges);
      expect(reachOf(all)).toBe(reach);
      const chosen = joinableParts(all);
      for (const [index, part] of chosen.entries()) {
        expect(part.from <= (chosen[index - 1]?.to ?? 0)).toBe(true);
        // One that could be left out would not have been the furthest.
        expect(part.from > (chosen[index - 2]?.to ?? -1)).toBe(true);
      }
    }),
  );
});

test('joined pieces - the bytes, then zeros up to the size the segment itself states', async () => {
  const repository = await archivedPieces([
    [0, 500],
    [500, 900],
    [0, 800],
    [700, 5000],
    [6000, 7000],
  ]);
  const joined = await getLogFile(repository, owner, `${segment}.partial`);
  expect(joined?.length).toBe(MIB);
  expect(Buffer.compare(joined!.subarray(0, 5000), bytes.subarray(0, 5000))).toBe(0);
  expect(joined!.subarray(5000).every(byte => byte === 0)).toBe(true);
  expect(await archivedReach(repository, owner, segment)).toBe(5000);
  // A piece by its own name is what is in it.
  const own = await getLogFile(repository, owner, partName(segment, 6000, 7000));
  expect(Buffer.compare(own!, bytes.subarray(6000, 7000))).toBe(0);
  expect(await getLogFile(repository, owner, segment)).toBeNull();
});

test('the whole segment, or a .partial from before there were pieces - each read under its own name', async () => {
  const repository = await archivedPieces([[100, 200]]);
  expect(await getLogFile(repository, owner, `${segment}.partial`)).toBeNull();
  expect(await archivedReach(repository, owner, segment)).toBe(0);
  await putLogFile(repository, { ...owner, name: `${segment}.partial`, bytes: Buffer.from('old'), level: 3 });
  expect(await getLogFile(repository, owner, `${segment}.partial`)).toEqual(
    new Uint8Array(Buffer.from('old')),
  );
  expect(await archivedReach(repository, owner, segment)).toBe(Number.POSITIVE_INFINITY);
  await putLogPart(repository, { ...owner, segment, from: 0, bytes: bytes.subarray(0, 150), level: null });
  expect((await getLogFile(repository, owner, `${segment}.partial`))?.length).toBe(MIB);
  expect(await archivedReach(repository, owner, segment)).toBe(200);
  await putLogFile(repository, { ...owner, name: segment, bytes, level: 3 });
  expect(await archivedReach(repository, owner, segment)).toBe(Number.POSITIVE_INFINITY);
});

test('the same piece again - fine with the same bytes, LOG_CONFLICT with others; pieces of a neighbour are none', async () => {
  const repository = await archivedPieces([[0, 500]]);
  const again = { ...owner, segment, from: 0, level: null };
  expect(await putLogPart(repository, { ...again, bytes: bytes.slice(0, 500) })).toBe('same');
  await expect(putLogPart(repository, { ...again, bytes: new Uint8Array(500) })).rejects.toMatchObject({
    code: 'LOG_CONFLICT',
  });
  expect(await listLogParts(repository, owner, '000000010000000000000004')).toEqual([]);
  expect((await listLogParts(repository, owner, segment)).map(each => each.to)).toEqual([500]);
});

test('pieces that differ where they overlap, or are not of their length - CORRUPT, with the name', async () => {
  const repository = await archivedPieces([[0, 500]]);
  const other = bytes.slice(400, 600);
  other[7]! ^= 1;
  await putLogPart(repository, { ...owner, segment, from: 400, bytes: other, level: null });
  await expect(getLogFile(repository, owner, `${segment}.partial`)).rejects.toMatchObject({
    code: 'CORRUPT',
    message: expect.stringContaining('00000190-00000258.part'),
  });
  const short = await archivedPieces([]);
  await putLogFile(short, {
    ...owner,
    name: partName(segment, 0, 500),
    bytes: bytes.slice(0, 400),
    level: null,
  });
  await expect(getLogFile(short, owner, `${segment}.partial`)).rejects.toMatchObject({ code: 'CORRUPT' });
  const alien = await archivedPieces([]);
  await putLogPart(alien, { ...owner, segment, from: 0, bytes: new Uint8Array(500), level: null });
  await expect(getLogFile(alien, owner, `${segment}.partial`)).rejects.toMatchObject({ code: 'CORRUPT' });
  expect(logPath(owner, partName(segment, 0, 500))).toContain('/00000001/');
});
