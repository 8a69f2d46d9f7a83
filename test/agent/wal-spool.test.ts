import { appendFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  openSpoolDirectory,
  type SpoolDirectory,
  spoolEnds,
  sureEnds,
} from '../../src/agent/spool-directory.ts';
import { WalSpool } from '../../src/agent/wal-spool.ts';
import type { AppError } from '../../src/base/errors.ts';
import { temporaryDirectory } from '../support/temp.ts';

const MIB = 1024 * 1024;
const START = BigInt(3 * MIB);
const names = ['3', '4', '5', '6'].map(digit => `00000001000000000000000${digit}`);

interface Heard {
  readonly flushed: bigint[];
  readonly segments: string[];
  readonly diverged: string[];
  readonly failures: AppError[];
}

function open(
  directory: SpoolDirectory,
  isAwaited = true,
): { readonly spool: WalSpool; readonly heard: Heard } {
  const heard: Heard = { flushed: [], segments: [], diverged: [], failures: [] };
  const spool = new WalSpool({
    directory,
    segmentSize: MIB,
    onFlushed: isAwaited ? lsn => heard.flushed.push(lsn) : null,
    onReceived: () => undefined,
    onSegment: segment => heard.segments.push(segment),
    onDivergence: (_lsn, aside) => heard.diverged.push(aside),
    onFailure: error => heard.failures.push(error),
  });
  return { spool, heard };
}

const log = new Uint8Array(3 * MIB + 5000).map((_, index) => (index * 7 + (index >>> 10)) & 0xff);

/** Writes the log from `from` on in messages of these lengths, in turn. */
function receive(spool: WalSpool, from: number, to: number, lengths: readonly number[] = [8192]): void {
  for (let at = from, turn = 0; at < to; turn += 1) {
    const length = Math.min(lengths[turn % lengths.length]!, to - at);
    spool.write(START + BigInt(at), log.subarray(at, at + length));
    at += length;
  }
}

const read = (path: string, name: string): Buffer => readFileSync(join(path, name));

test('messages of any length - the files are the log, full ones under their names; all is flushed in order', async () => {
  const lengths = fc.array(fc.integer({ min: 1, max: 400_000 }), { minLength: 1, maxLength: 9 });
  await fc.assert(
    fc.asyncProperty(lengths, fc.boolean(), async (each, isAwaited) => {
      await using place = await temporaryDirectory();
      const { spool, heard } = open(await openSpoolDirectory(place.path, MIB), isAwaited);
      await spool.begin(1, START);
      receive(spool, 0, log.length, each);
      expect(spool.written).toBe(START + BigInt(log.length));
      await spool.settled();
      expect([spool.flushed, spool.unflushedMs()]).toEqual([spool.written, 0]);
      expect(heard.segments).toEqual(names.slice(0, 3));
      expect(heard.flushed).toEqual([...heard.flushed].sort((a, b) => Number(a - b)));
      expect(heard.flushed.length > 0).toBe(isAwaited);
      await spool.close();
      expect(readdirSync(place.path).sort()).toEqual([...names.slice(0, 3), `${names[3]}.partial`]);
      const files = [...names.slice(0, 3), `${names[3]}.partial`].map(name => read(place.path, name));
      expect(Buffer.compare(Buffer.concat(files), log)).toBe(0);
    }),
    { numRuns: 12 },
  );
}, 60_000);

test('nobody waits for what is flushed - it is known when asked for; what came meanwhile follows without another word', async () => {
  await using place = await temporaryDirectory();
  const { spool, heard } = open(await openSpoolDirectory(place.path, MIB), false);
  await spool.begin(1, START);
  for (const [from, to] of [
    [0, 9000],
    [9000, 20_000],
    [20_000, MIB + 50],
    [MIB + 50, MIB + 60],
  ] as const) {
    receive(spool, from, to, [5000]);
    expect(spool.flushed).toBeLessThan(spool.written);
    spool.flush();
    receive(spool, to, to + 10);
    spool.flush();
    await expect.poll(() => spool.flushed).toBe(spool.written);
    expect(spool.unflushedMs()).toBe(0);
    // The same again, as the server sends it to a connection that is made anew.
    await spool.begin(1, START);
    receive(spool, 0, to);
  }
  await spool.settled();
  expect(heard).toMatchObject({ flushed: [], diverged: [], failures: [] });
  expect(heard.segments).toContain(names[0]);
  await spool.close();
  expect(Buffer.compare(read(place.path, names[0]!), log.subarray(0, MIB))).toBe(0);
});

test('gone on with after a kill - what is there is compared and not written again, what is new is added', async () => {
  await using place = await temporaryDirectory();
  const directory = await openSpoolDirectory(place.path, MIB);
  const before = open(directory);
  await before.spool.begin(1, START);
  receive(before.spool, 0, 5000);
  await before.spool.close();
  expect(spoolEnds(directory.list())).toEqual(new Map([[1, START + 5000n]]));
  const { spool, heard } = open(directory);
  await spool.begin(1, START);
  receive(spool, 0, 3000);
  await spool.settled();
  expect(Buffer.compare(read(place.path, `${names[0]}.partial`), log.subarray(0, 5000))).toBe(0);
  receive(spool, 3000, MIB + 10);
  await spool.close();
  expect(heard).toMatchObject({ segments: [names[0]], diverged: [], failures: [] });
  expect(Buffer.compare(read(place.path, names[0]!), log.subarray(0, MIB))).toBe(0);
});

test('killed before a full segment had its name, later ones begun - it is received again, and gets it', async () => {
  await using place = await temporaryDirectory();
  const directory = await openSpoolDirectory(place.path, MIB);
  writeFileSync(join(place.path, `${names[0]}.partial`), log.subarray(0, MIB));
  writeFileSync(join(place.path, `${names[1]}.partial`), log.subarray(MIB, MIB + 300));
  expect(spoolEnds(directory.list())).toEqual(new Map([[1, START + BigInt(MIB + 300)]]));
  expect(sureEnds(directory.list())).toEqual(new Map([[1, START + BigInt(MIB - 1)]]));
  const { spool, heard } = open(directory);
  await spool.begin(1, START);
  receive(spool, 0, MIB + 400);
  await spool.close();
  expect(heard).toMatchObject({ segments: [names[0]], diverged: [] });
  expect(readdirSync(place.path).sort()).toEqual([names[0], `${names[1]}.partial`]);
  expect(sureEnds(directory.list())).toEqual(new Map([[1, START + BigInt(MIB + 399)]]));
});

test('the server has other bytes than the spool - those are kept aside, and it is told', async () => {
  await using place = await temporaryDirectory();
  const directory = await openSpoolDirectory(place.path, MIB);
  const other = Buffer.from(log.subarray(0, 9000));
  other[7000]! ^= 1;
  writeFileSync(join(place.path, `${names[0]}.partial`), other);
  const { spool, heard } = open(directory);
  await spool.begin(1, START);
  receive(spool, 0, 20_000, [3000]);
  await spool.close();
  expect(heard.diverged.length).toBe(1);
  expect(Buffer.compare(read(place.path, heard.diverged[0]!), other)).toBe(0);
  expect(Buffer.compare(read(place.path, `${names[0]}.partial`), log.subarray(0, 20_000))).toBe(0);
});

test('a hole in what comes - refused as a bug, nothing is written', async () => {
  await using place = await temporaryDirectory();
  const { spool } = open(await openSpoolDirectory(place.path, MIB));
  await spool.begin(1, START);
  expect(() => spool.write(START + 1n, log.subarray(0, 9))).toThrow(/the spool is at 0\/300000/);
  await expect(spool.begin(1, START + 1n)).rejects.toThrow();
  await spool.close();
  expect(readdirSync(place.path)).toEqual([]);
});

test('a flush that fails - nothing more is called durable, it is told once, and the end does not wait for it', async () => {
  await using place = await temporaryDirectory();
  const { spool, heard } = open(await openSpoolDirectory(place.path, MIB));
  await spool.begin(1, START);
  receive(spool, 0, 9000);
  await spool.settled();
  // Without the file under its name it cannot get another one.
  rmSync(join(place.path, `${names[0]}.partial`));
  receive(spool, 9000, MIB + 10);
  await spool.settled();
  receive(spool, MIB + 10, MIB + 20);
  spool.flush();
  await spool.close();
  expect(heard.failures).toMatchObject([{ code: 'FILE_FAILED' }]);
  expect([heard.segments, spool.flushed]).toEqual([[], START + 9000n]);
});

test('archived files - kept for a while, then the oldest go; what is not archived stays and counts', async () => {
  await using place = await temporaryDirectory();
  const directory = await openSpoolDirectory(place.path, MIB);
  const all = Array.from({ length: 6 }, (_, n) => `00000001000000000000000${n + 3}`);
  for (const name of all) writeFileSync(join(place.path, name), Buffer.alloc(100));
  appendFileSync(join(place.path, 'gaps.json'), '[]');
  expect(directory.unarchivedBytes()).toBe(600);
  for (const file of directory.list().slice(0, 5)) directory.markArchived(file);
  await expect.poll(() => directory.list().length).toBe(4);
  expect(directory.list().map(each => [each.segment, each.state])).toEqual([
    [all[2], 'archived'],
    [all[3], 'archived'],
    [all[4], 'archived'],
    [all[5], 'full'],
  ]);
  expect(directory.unarchivedBytes()).toBe(100);
});
