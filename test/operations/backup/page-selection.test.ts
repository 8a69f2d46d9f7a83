import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { ReadTask } from '../../../src/operations/backup/backup-protocol.ts';
import { type PageSelection, windowsOf } from '../../../src/operations/backup/page-selection.ts';
import { appendRange, type Ranges } from '../../../src/operations/backup/ranges.ts';
import { readSelected, type SelectedPages } from '../../../src/operations/backup/read-selected.ts';
import type { DamagedPage } from '../../../src/repository/manifest.ts';
import { PackWriter, type StoredFrame } from '../../../src/repository/pack-writer.ts';
import { memoryRepository } from '../../repository/memory-repository.ts';

const MIB = 1024 * 1024;
const BLOCK = 8192;

/** A file of pages whose content says which page it is. */
function fileOf(pages: number): Uint8Array {
  const file = new Uint8Array(pages * BLOCK);
  for (let page = 0; page < pages; page += 1) {
    file.fill(1 + (page % 250), page * BLOCK, (page + 1) * BLOCK);
    setLsn(file, page, 100n);
  }
  return file;
}

function setLsn(file: Uint8Array, page: number, lsn: bigint): void {
  const view = new DataView(file.buffer, file.byteOffset + page * BLOCK);
  view.setUint32(0, Number(lsn >> 32n), true);
  view.setUint32(4, Number(lsn & 0xffffffffn), true);
}

interface Done extends SelectedPages {
  /** What was stored, by where it belongs. */
  readonly stored: ReadonlyMap<number, Uint8Array>;
  readonly readBytes: number;
}

/** Runs a selection over a file as a worker does. */
async function select(
  file: Uint8Array,
  selection: PageSelection,
  more: Partial<ReadTask> & { readonly bad?: readonly number[] } = {},
): Promise<Done> {
  const buffer = new Uint8Array(MIB);
  const task = { id: 1, path: 'f', source: '/f', offset: 0, length: file.length, firstBlock: 0, ...more };
  const stored = new Map<number, Uint8Array>();
  let readBytes = 0;
  const done = await readSelected(task, selection, {
    buffer,
    body: new Uint8Array(MIB),
    blockSize: BLOCK,
    read(offset, length) {
      const part = file.subarray(offset, offset + length);
      buffer.set(part);
      readBytes += part.length;
      const first = (task.firstBlock ?? 0) + (offset - task.offset) / BLOCK;
      const damaged = (more.bad ?? [])
        .filter(block => block >= first && block < first + part.length / BLOCK)
        .map((block): DamagedPage => ({ path: 'f', block }));
      return { got: part.length, damaged };
    },
    store(body, ranges) {
      let at = 0;
      for (let index = 0; index < ranges.length; index += 2) {
        stored.set(ranges[index]!, body.slice(at, at + ranges[index + 1]!));
        at += ranges[index + 1]!;
      }
      expect([at, body.length <= MIB]).toEqual([body.length, true]);
      const frame: StoredFrame = { packId: 'p', number: 0, offset: 0, stored: 0, raw: body.length, hash: '' };
      return Promise.resolve(frame);
    },
  });
  return { ...done, stored, readBytes };
}

/** The pages that were stored; that they are the file's own is checked. */
function pagesOf(done: Done, file: Uint8Array): number[] {
  const pages: number[] = [];
  for (const [offset, bytes] of done.stored) {
    expect(Buffer.compare(bytes, file.subarray(offset, offset + bytes.length))).toBe(0);
    for (let at = offset; at < offset + bytes.length; at += BLOCK) pages.push(at / BLOCK);
  }
  return pages;
}

function pages(numbers: readonly number[]): Ranges {
  const ranges: number[] = [];
  for (const page of numbers.toSorted((a, b) => a - b)) appendRange(ranges, page * BLOCK, BLOCK);
  return ranges;
}

test('any pages of a file - exactly these are stored, in frames of at most 1 MiB, and little else is read', async () => {
  const file = fileOf(700);
  const runs = fc.array(fc.tuple(fc.nat(699), fc.integer({ min: 1, max: 200 })), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(runs, async list => {
      const wanted = new Set<number>();
      for (const [from, count] of list)
        for (let page = from; page < Math.min(700, from + count); page += 1) wanted.add(page);
      const done = await select(file, { kind: 'ranges', ranges: pages([...wanted]) });
      expect(pagesOf(done, file)).toEqual([...wanted].sort((a, b) => a - b));
      expect(done.frames.slice(0, -1).every(each => each.frame.raw === MIB)).toBe(true);
      expect(done.endsAt).toBeNull();
    }),
    { numRuns: 60 },
  );
});

test('pages that lie close together - are read in one call, those far apart are not', () => {
  const windows = (numbers: readonly number[]): { offset: number; length: number }[] => [
    ...windowsOf({ kind: 'ranges', ranges: pages(numbers) }, { offset: 0, length: 100 * MIB }),
  ];
  expect(windows([10, 12, 17])).toEqual([{ offset: 10 * BLOCK, length: 8 * BLOCK }]);
  expect(windows([10, 20])).toEqual([
    { offset: 10 * BLOCK, length: BLOCK },
    { offset: 20 * BLOCK, length: BLOCK },
  ]);
  const many = windows(Array.from({ length: 300 }, (_, page) => page));
  expect(many.map(each => each.length)).toEqual([MIB, MIB, 44 * BLOCK]);
});

test('by position - what changed since, what has no position, what is damaged, what is asked for; nothing else', async () => {
  const file = fileOf(300);
  setLsn(file, 5, 1000n);
  setLsn(file, 6, 999n);
  setLsn(file, 7, 0x1_0000_0000n);
  setLsn(file, 8, 0n);
  setLsn(file, 9, 1n);
  file.fill(0, 200 * BLOCK, 201 * BLOCK);
  const selection = { kind: 'since', sinceLsn: 1000n, ranges: pages([150]) } as const;
  const done = await select(file, selection, { bad: [40] });
  expect(pagesOf(done, file)).toEqual([5, 7, 8, 9, 40, 150, 200]);
  expect(done.damaged).toEqual([{ path: 'f', block: 40 }]);
  expect(done.readBytes).toBe(file.length);
});

test('the metapage of an SP-GiST index - is taken whatever it says; such a page elsewhere is not', async () => {
  const file = fileOf(4);
  const view = new DataView(file.buffer);
  for (const page of [0, 2]) view.setUint32(page * BLOCK + 24, 0xba0babee, true);
  const selection = { kind: 'since', sinceLsn: 1000n, ranges: [] } as const;
  expect(pagesOf(await select(file, selection), file)).toEqual([0]);
  expect(pagesOf(await select(file, selection, { firstBlock: 131_072 }), file)).toEqual([]);
});

test('damage on pages that are not stored - is not told', async () => {
  const file = fileOf(20);
  const done = await select(file, { kind: 'ranges', ranges: pages([3, 5]) }, { bad: [4, 5] });
  expect(done.damaged).toEqual([{ path: 'f', block: 5 }]);
});

test('a file that ends early - says where, and nothing behind it is stored', async () => {
  const file = fileOf(200);
  const done = await select(
    file,
    { kind: 'ranges', ranges: pages([3, 199, 200, 400]) },
    { length: 500 * BLOCK },
  );
  expect(done.endsAt).toBe(200 * BLOCK);
  expect(pagesOf(done, file)).toEqual([3, 199]);
  const scanned = await select(file, { kind: 'since', sinceLsn: 1n, ranges: [] }, { length: 500 * BLOCK });
  expect([scanned.endsAt, pagesOf(scanned, file).length]).toEqual([200 * BLOCK, 200]);
});

test('by content - only what has another hash, or none', async () => {
  const { keyring } = memoryRepository();
  const writer = new PackWriter({ instance: 'i', backupId: 'b', keyring, level: 1 }, new Uint8Array(8 * MIB));
  const file = fileOf(3 * 128 + 7);
  const hashes = [0, 1, 2, 3].map(index => {
    const body = file.subarray(index * MIB, (index + 1) * MIB);
    return writer.add('f', [0, body.length], body).hash;
  });
  expect((await select(file, { kind: 'content', hashes })).frames).toEqual([]);
  file[MIB + 5]! ^= 1;
  const done = await select(file, { kind: 'content', hashes: [hashes[0]!, hashes[1]!, null, ''] });
  expect([...done.stored.keys()]).toEqual([MIB, 2 * MIB, 3 * MIB]);
  const cut = await select(
    file.subarray(0, 2 * MIB + 10),
    { kind: 'content', hashes },
    { length: file.length },
  );
  expect([cut.endsAt, [...cut.stored.keys()]]).toEqual([2 * MIB + 10, [MIB, 2 * MIB]]);
});
