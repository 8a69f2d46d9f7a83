import { randomBytes } from 'node:crypto';
import { copyFile, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newPiece, readListedSegment } from '../../src/operations/log/archive-listed-segment.ts';
import { fileFacts } from '../../src/operations/log/archive-notes.ts';
import { readCountedWrites } from '../../src/storage/faulty/write-counter.ts';
import type { CliResult } from '../support/cli.ts';
import { type LogQueue, startLogQueue } from '../support/log-queue.ts';

let queue: LogQueue;

beforeAll(async () => {
  queue = await startLogQueue();
});

afterAll(async () => {
  await queue?.[Symbol.asyncDispose]();
});

interface Plan {
  readonly write: number;
  readonly at?: 'before' | 'middle' | 'after';
  readonly action: 'kill' | 'ENOSPC';
  readonly lasting?: boolean;
}

/** Faults for a call and the process that it starts, their writes counted together. */
function faults(plan: Plan): { env: Record<string, string>; writes: () => Promise<readonly string[]> } {
  const counterFile = queue.instance.path(`writes-${randomBytes(4).toString('hex')}`);
  return {
    env: { AISHELL_STORAGE_FAULTS: JSON.stringify({ ...plan, counterFile }) },
    writes: () => readCountedWrites(counterFile),
  };
}

async function pendingNotes(): Promise<string[]> {
  const pending: string[] = [];
  for (const name of await readdir(queue.notes).catch(() => []))
    if (/^process /m.test(await readFile(join(queue.notes, name), 'utf8'))) pending.push(name);
  return pending;
}

test('killed before, in and after any write, the call or what it started - what a call says is archived is, and all arrives', async () => {
  let behind = 0;
  for (const write of [1, 2, 3, 5]) {
    for (const at of ['before', 'middle', 'after'] as const) {
      await queue.clear();
      const { env, writes } = faults({ write, at, action: 'kill' });
      let killedCalls = 0;
      for (const segment of queue.segments) {
        const what = `write ${write}, ${at}, ${segment}`;
        for (let done: CliResult | null = null; done?.exitCode !== 0; ) {
          done = await queue.archive(segment, { env });
          if (done.exitCode !== 0) expect(done.signal, `${what}\n${done.stderr}`).toBe('SIGKILL');
          if (done.exitCode !== 0) killedCalls += 1;
          expect(done.seconds, what).toBeLessThan(8);
        }
        expect(await queue.archivedAs(segment), what).toBe('whole');
      }
      expect((await writes()).length).toBeGreaterThanOrEqual(write);
      expect(killedCalls).toBeLessThanOrEqual(1);
      if (killedCalls === 0) behind += 1;
    }
  }
  // It has met both: a call has one write, the process behind it the others.
  expect(behind).toBeGreaterThan(0);
});

test('the repository is full behind a call - its calls say so at once, and go on when it is not', async () => {
  await queue.clear();
  const { env } = faults({ write: 4, action: 'ENOSPC', lasting: true });
  let failed: CliResult | null = null;
  let arrived = 0;
  for (const segment of queue.segments) {
    const done = await queue.archive(segment, { env });
    expect(done.seconds).toBeLessThan(8);
    if (done.exitCode === 0) {
      expect(await queue.archivedAs(segment)).toBe('whole');
      arrived += 1;
    } else failed ??= done;
  }
  expect(arrived).toBeLessThanOrEqual(3);
  expect(failed?.stderr).toContain('no space is left');
  // Whoever is about to archive something ends first.
  await expect.poll(pendingNotes, { timeout: 5000 }).toEqual([]);
  for (const segment of queue.segments) {
    expect(await queue.archive(segment)).toMatchObject({ exitCode: 0, stderr: '' });
    expect(await queue.archivedAs(segment)).toBe('whole');
  }
});

test('a server that is stopped meanwhile - nothing more of its queue is begun', async () => {
  await queue.clear();
  const pidFile = join(queue.cluster.dataDirectory, 'postmaster.pid');
  await rename(pidFile, `${pidFile}.aside`);
  try {
    expect(await queue.archive(queue.segments[0]!)).toMatchObject({ exitCode: 0, stderr: '' });
    await sleep(500);
    expect(await queue.archived()).toEqual([queue.segments[0]]);
    expect(await pendingNotes()).toEqual([]);
  } finally {
    await rename(`${pidFile}.aside`, pidFile);
  }
});

test('another file has come into the place of one that was listed - it is not archived, whatever is in it', async () => {
  await queue.clear();
  const path = join(queue.log, queue.segments[2]!);
  const segment = { path, facts: fileFacts(await stat(path, { bigint: true })) };
  const repository = await queue.openRepository();
  const request = { instance: queue.instance.name, level: 3 };
  const memory = { piece: newPiece() };
  const read = (): Promise<unknown> => readListedSegment(repository, request, { segment, memory });
  await read();
  const twin = `${path}.twin`;
  await copyFile(path, twin);
  await rename(twin, path);
  await expect(read()).rejects.toMatchObject({
    code: 'CORRUPT',
    message: expect.stringContaining(`unable to archive '${basename(path)}'`),
  });
  await rm(twin, { force: true });
});
