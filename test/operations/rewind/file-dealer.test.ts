import { expect, test } from 'vitest';
import { FileDealer, type FileJob } from '../../../src/operations/rewind/file-dealer.ts';

const file = (name: string, tasks: number, taskBytes = 10): FileJob<string> => ({
  bytes: tasks * taskBytes,
  tasks: () => Array.from({ length: tasks }, (_, index) => `${name}${index + 1}`),
});

/** What two threads get that take turns. */
function takeTurns(dealer: FileDealer<string>): [string, string][] {
  const rounds: [string, string][] = [];
  for (;;) {
    const batches = [dealer.next(0), dealer.next(1)];
    if (batches.every(batch => batch === null)) return rounds;
    rounds.push(batches.map(batch => batch?.join(' ') ?? '') as [string, string]);
  }
}

test('two large files - each thread has one, and helps the other in the end', () => {
  const dealer = new FileDealer([file('a', 2), file('b', 6)], 10);
  expect(takeTurns(dealer)).toEqual([
    ['b1', 'a1'],
    ['b2', 'a2'],
    ['b3', 'b6'],
    ['b4', 'b5'],
  ]);
});

test('small files - go together, as many as make up a batch, before the threads help each other', () => {
  const small = ['p', 'q', 'r', 's', 't'].map(name => file(name, 1, 4));
  const dealer = new FileDealer([...small, file('large', 3)], 10);
  expect(takeTurns(dealer)).toEqual([
    ['large1', 'p1 q1 r1'],
    ['large2', 's1 t1'],
    ['large3', ''],
  ]);
});

test('files of no bytes, and none at all - are dealt out, and end', () => {
  const dealer = new FileDealer([file('empty', 1, 0), file('none', 0)], 10);
  expect(takeTurns(dealer)).toEqual([['empty1', '']]);
  expect(new FileDealer([], 10).next(3)).toBeNull();
});

test('every task of many files and threads - exactly once', () => {
  const files = Array.from({ length: 40 }, (_, index) =>
    file(`f${index}-`, (index * 7) % 23, 1 + (index % 3)),
  );
  const dealer = new FileDealer(files, 20);
  const seen: string[] = [];
  for (let thread = 0, idle = 0; idle < 5; thread = (thread * 3 + 1) % 5) {
    const batch = dealer.next(thread);
    idle = batch === null ? idle + 1 : 0;
    seen.push(...(batch ?? []));
  }
  expect(seen.toSorted()).toEqual(files.flatMap(each => each.tasks()).toSorted());
});
