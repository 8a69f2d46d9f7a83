import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { ReadTask } from '../../../src/operations/backup/backup-protocol.ts';
import {
  type CopiedLine,
  FileAssembler,
  type SourceFile,
} from '../../../src/operations/backup/file-assembler.ts';
import { chunkAt, chunksOf } from '../../../src/repository/chunk-list.ts';
import type { StoredFrame } from '../../../src/repository/pack-writer.ts';

const MIB = 1024 * 1024;
const BLOCK = 8192;

const relation = (sizeBytes: number, more: Partial<SourceFile> = {}): SourceFile => ({
  path: 'base/5/16384',
  source: '/data/base/5/16384',
  sizeBytes,
  mode: 0o600,
  firstBlock: 0,
  ...more,
});

/** What a worker answers when it could read `bytes` of a task's range: whole frames of 1 MiB and a rest. */
function framesOf(task: ReadTask, bytes: number): StoredFrame[] {
  const frames: StoredFrame[] = [];
  for (let at = 0; at < bytes; at += MIB) {
    const raw = Math.min(MIB, bytes - at);
    frames.push({
      packId: `pack-${task.id % 3}`,
      number: at / MIB,
      offset: at,
      stored: raw + 17,
      raw,
      hash: `${task.offset + at}`,
    });
  }
  return frames;
}

test('a file of any size, its ranges answered in any order - one line, its chunks in the order of the file', () => {
  const size = fc.integer({ min: 0, max: 200 * MIB });
  fc.assert(
    fc.property(size, fc.infiniteStream(fc.nat()), (sizeBytes, random) => {
      const assembler = new FileAssembler(BLOCK);
      const tasks = assembler.tasksOf(relation(sizeBytes));
      expect(tasks.reduce((sum, task) => sum + task.length, 0)).toBe(sizeBytes);
      for (const [index, task] of tasks.entries()) {
        expect(task.offset).toBe(tasks.slice(0, index).reduce((sum, each) => sum + each.length, 0));
        expect(task.firstBlock).toBe(task.offset / BLOCK);
      }
      const order = tasks
        .map(task => ({ task, key: random.next().value as number }))
        .sort((a, b) => a.key - b.key);
      const outcomes = order.map(({ task }) =>
        assembler.add({ id: task.id, frames: framesOf(task, task.length), damaged: [] }),
      );
      expect(outcomes.slice(0, -1).every(each => each === null)).toBe(true);
      const { line } = outcomes.at(-1) as { line: CopiedLine };
      expect(line.s).toBe(sizeBytes);
      const chunks = chunksOf(line.chunks);
      expect(chunks.map(chunk => Number(chunk[7]))).toEqual(chunks.map((_, index) => index * MIB));
      expect(chunks.reduce((sum, chunk) => sum + chunk[0], 0)).toBe(sizeBytes);
      expect([assembler.copiedBytes, assembler.fileCount]).toEqual([sizeBytes, 1]);
    }),
    { numRuns: 60 },
  );
});

test('a file that got shorter - its line has what there was', () => {
  for (const [first, second] of [
    [8 * MIB, 5],
    [8 * MIB, 0],
    [7 * BLOCK, 0],
    [0, 0],
  ] as const) {
    const assembler = new FileAssembler(BLOCK);
    const [one, two] = assembler.tasksOf(relation(9 * MIB)) as [ReadTask, ReadTask];
    expect(assembler.add({ id: two.id, frames: framesOf(two, second), damaged: [] })).toBeNull();
    expect(assembler.add({ id: one.id, frames: framesOf(one, first), damaged: [] })).toMatchObject({
      line: { s: first + second },
    });
  }
});

test('a file that vanished, between two ranges too - no line, or what there was', () => {
  const assembler = new FileAssembler(BLOCK);
  for (const task of assembler.tasksOf(relation(100)))
    expect(assembler.add({ id: task.id, frames: null, damaged: [] })).toBeNull();
  const [one, two] = assembler.tasksOf(relation(16 * MIB)) as [ReadTask, ReadTask];
  assembler.add({ id: two.id, frames: null, damaged: [] });
  expect(assembler.add({ id: one.id, frames: null, damaged: [] })).toBeNull();
  expect(assembler.fileCount).toBe(0);
  const [three, four] = assembler.tasksOf(relation(16 * MIB)) as [ReadTask, ReadTask];
  assembler.add({ id: three.id, frames: framesOf(three, three.length), damaged: [] });
  expect(assembler.add({ id: four.id, frames: null, damaged: [] })).toMatchObject({ line: { s: 8 * MIB } });
});

test('a file without which the backup is worthless, gone or shorter - its own error; whole - its line', () => {
  const whenNotWhole = (): Error => new Error('worthless');
  const answer = (bytes: number | null): unknown => {
    const assembler = new FileAssembler(BLOCK);
    const [one, two] = assembler.tasksOf(relation(16 * MIB, { whenNotWhole })) as [ReadTask, ReadTask];
    assembler.add({ id: one.id, frames: framesOf(one, one.length), damaged: [] });
    return assembler.add({
      id: two.id,
      frames: bytes === null ? null : framesOf(two, bytes),
      damaged: [],
    });
  };
  for (const bytes of [null, 0, 8 * MIB - 1]) expect(() => answer(bytes)).toThrow('worthless');
  expect(answer(8 * MIB)).toMatchObject({ line: { s: 16 * MIB } });
});

test('a file that was cut off and grew while it was read - is asked for again in one range, which joins', () => {
  for (const first of [null, 0, 7 * MIB]) {
    const assembler = new FileAssembler(BLOCK);
    const file = relation(10 * MIB);
    const [one, two] = assembler.tasksOf(file) as [ReadTask, ReadTask];
    assembler.add({ id: one.id, frames: first === null ? null : framesOf(one, first), damaged: [] });
    expect(assembler.add({ id: two.id, frames: framesOf(two, two.length), damaged: [] })).toEqual({
      again: file,
    });
    const [whole, ...more] = assembler.tasksOf(file, 'one-range');
    expect([whole!.offset, whole!.length, more]).toEqual([0, file.sizeBytes, []]);
    expect(assembler.add({ id: whole!.id, frames: framesOf(whole!, 9 * MIB), damaged: [] })).toMatchObject({
      line: { s: 9 * MIB },
    });
    expect([assembler.copiedBytes, assembler.fileCount]).toEqual([9 * MIB, 1]);
  }
});

test('packs - numbered as chunks first name them, those without a chunk are left out', () => {
  const packs = ['unused', 'b', 'a'].map(id => ({
    id,
    backup: 'x',
    generation: 1,
    sizeBytes: 1,
    sha256: '',
  }));
  const assembler = new FileAssembler(BLOCK, packs.slice(0, 2));
  assembler.addPack(packs[2]!);
  const lines = ['a', 'b', 'a'].map((packId, index) => {
    const [task] = assembler.tasksOf(relation(10, { path: `f${index}` }));
    const frame = { packId, number: index, offset: 40, stored: 27, raw: 10, hash: 'h' };
    return (assembler.add({ id: task!.id, frames: [frame], damaged: [] }) as { line: CopiedLine }).line;
  });
  expect(lines.map(line => chunkAt(line.chunks, 0))).toEqual([
    [10, 0, 0, 40, 27, 10, 0, 'h'],
    [10, 1, 1, 40, 27, 10, 0, 'h'],
    [10, 0, 2, 40, 27, 10, 0, 'h'],
  ]);
  expect(assembler.packs().map(({ id }) => id)).toEqual(['a', 'b']);
});

test('a configuration file, damaged pages, later segments of a relation - are told as they are', () => {
  const assembler = new FileAssembler(BLOCK);
  const [config] = assembler.tasksOf(
    relation(10, {
      path: 'postgresql.conf',
      source: new Uint8Array(10),
      firstBlock: null,
      configSource: '/etc/x',
    }),
  );
  expect(config!.firstBlock).toBeNull();
  expect(assembler.add({ id: config!.id, frames: framesOf(config!, 10), damaged: [] })).toMatchObject({
    line: { t: 'config', p: 'postgresql.conf', source: '/etc/x', s: 10 },
  });
  const tasks = assembler.tasksOf(relation(10 * MIB, { path: 'base/5/16384.1', firstBlock: 131_072 }));
  expect(tasks.map(task => task.firstBlock)).toEqual([131_072, 131_072 + 1024]);
  const damaged = [{ path: 'base/5/16384.1', block: 131_073 }];
  assembler.add({ id: tasks[0]!.id, frames: [], damaged });
  expect(assembler.damaged).toEqual(damaged);
});
