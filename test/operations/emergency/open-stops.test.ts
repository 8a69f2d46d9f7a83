import { appendFile, readFile, stat } from 'node:fs/promises';
import { expect, test } from 'vitest';
import type { EmergencyContext } from '../../../src/operations/emergency/emergency-context.ts';
import { readOpenStops } from '../../../src/operations/emergency/open-stops.ts';
import {
  journalPath,
  markStep,
  readJournal,
  writeRecord,
} from '../../../src/operations/emergency/stop-journal.ts';
import type { InstanceContext } from '../../../src/operations/instance-context.ts';
import { putResumed, putStopRecord } from '../../../src/repository/emergency-archive.ts';
import type { Repository } from '../../../src/repository/repository.ts';
import { memoryRepository } from '../../repository/memory-repository.ts';
import { temporaryDirectory } from '../../support/temp.ts';
import { stopRecord } from './stop-records.ts';

const signal = new AbortController().signal;
const mark = { action: 'stop', step: 'read-only', at: '2025-10-27T14:00:24.100Z' } as const;

/** As much of a context as is looked at; without a repository it is out of reach. */
function contextOf(stateDirectory: string, repository: Repository | null): EmergencyContext {
  return {
    instance: 'shop',
    settings: { stateDirectory },
    open: async () => {
      if (repository === null) throw new Error('no route to host');
      return { repository } as InstanceContext;
    },
  } as unknown as EmergencyContext;
}

async function store(repository: Repository, record = stopRecord()): Promise<void> {
  await putStopRecord(repository, { instance: 'shop', stop: record.id, sequence: record.sequence }, record);
}

test('the record is here and in the repository - it counts once, with the steps that were done here', async () => {
  await using directory = await temporaryDirectory();
  const repository = memoryRepository();
  await writeRecord(directory.path, stopRecord());
  await markStep(directory.path, 'shop', mark);
  await store(repository);
  expect(await readOpenStops(contextOf(directory.path, repository), { signal })).toEqual({
    records: [stopRecord()],
    steps: [mark],
    repositoryProblem: null,
  });
});

test('another machine made the stop stricter - its record counts', async () => {
  await using directory = await temporaryDirectory();
  const repository = memoryRepository();
  await writeRecord(directory.path, stopRecord());
  const stricter = stopRecord({ sequence: 2, level: 'strict' });
  await store(repository);
  await store(repository, stricter);
  const { records } = await readOpenStops(contextOf(directory.path, repository), { signal });
  expect(records).toEqual([stricter]);
});

test('another machine put it back - the record here is over and removed', async () => {
  await using directory = await temporaryDirectory();
  const repository = memoryRepository();
  await writeRecord(directory.path, stopRecord());
  await store(repository);
  await putResumed(repository, { instance: 'shop', stop: stopRecord().id }, {});
  expect((await readOpenStops(contextOf(directory.path, repository), { signal })).records).toEqual([]);
  expect(await readJournal(directory.path, 'shop')).toBeNull();
});

test('the repository is out of reach - the record here is enough, and it is told', async () => {
  await using directory = await temporaryDirectory();
  await writeRecord(directory.path, stopRecord());
  const open = await readOpenStops(contextOf(directory.path, null), { signal });
  expect(open).toMatchObject({ records: [stopRecord()], repositoryProblem: 'no route to host' });
});

test('the repository does not answer in time - it is not waited for', async () => {
  await using directory = await temporaryDirectory();
  const context = { ...contextOf(directory.path, null), open: () => new Promise<never>(() => undefined) };
  const open = await readOpenStops(context, { signal, limitMs: 50 });
  expect(open.repositoryProblem).toMatch(/does not answer within 0.05 seconds/);
});

test('two machines that did not know of each other - the newest stop comes first', async () => {
  await using directory = await temporaryDirectory();
  const repository = memoryRepository();
  const newer = stopRecord({ id: 'stop_20251027_150000_000000' });
  await writeRecord(directory.path, stopRecord());
  await store(repository, newer);
  const { records } = await readOpenStops(contextOf(directory.path, repository), { signal });
  expect(records.map(({ id }) => id)).toEqual([newer.id, stopRecord().id]);
});

test('the journal - is private, takes a later record of the same stop, and survives a line that was cut off', async () => {
  await using directory = await temporaryDirectory();
  const path = journalPath(directory.path, 'shop');
  await writeRecord(directory.path, stopRecord());
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  await appendFile(path, '{"mark":{"act');
  await markStep(directory.path, 'shop', mark);
  const later = stopRecord({ sequence: 2, level: 'hard' });
  await writeRecord(directory.path, later);
  expect(await readJournal(directory.path, 'shop')).toEqual({ record: later, steps: [mark] });
  const other = stopRecord({ id: 'stop_20251028_000000_000000' });
  await writeRecord(directory.path, other);
  expect((await readFile(path, 'utf8')).split('\n')).toHaveLength(2);
});
