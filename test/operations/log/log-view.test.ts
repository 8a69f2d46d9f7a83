import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseLsn, parseSegmentName } from '../../../src/engines/postgres/lsn.ts';
import { openLogView, parseHistory } from '../../../src/operations/log/log-view.ts';
import { segmentsOf, waitForLog } from '../../../src/operations/log/wait-for-log.ts';
import { putLogFile, putLogPart } from '../../../src/repository/log-archive.ts';
import { memoryRepository } from '../../repository/memory-repository.ts';

const MIB = 1024 * 1024;
const owner = { instance: 'production', systemIdentifier: '7566129433051829306' };
const { signal } = new AbortController();

test('the segments of a range - the first holds its start, the last the byte before its end, none is left out', () => {
  const size = fc.constantFrom(1, 16, 64, 1024).map(each => each * MIB);
  fc.assert(
    fc.property(
      size,
      fc.bigInt({ min: 0n, max: 2n ** 50n }),
      fc.integer({ min: 1, max: 9 * MIB }),
      fc.integer({ min: 1, max: 9 }),
      (segmentSize, from, length, timeline) => {
        const to = from + BigInt(length);
        const starts = segmentsOf({ timeline, from, to, segmentSize }).map(
          name => parseSegmentName(name, segmentSize)!,
        );
        expect(starts.every(each => each.timeline === timeline)).toBe(true);
        const first = starts[0]!.lsn;
        const last = starts.at(-1)!.lsn;
        expect(first <= from && from < first + BigInt(segmentSize)).toBe(true);
        expect(last < to && to <= last + BigInt(segmentSize)).toBe(true);
        expect(starts.map(each => each.lsn)).toEqual(
          starts.map((_, index) => first + BigInt(index) * BigInt(segmentSize)),
        );
      },
    ),
  );
  expect(segmentsOf({ timeline: 1, from: 16n, to: 16n, segmentSize: MIB })).toEqual([
    '000000010000000000000000',
  ]);
  expect(segmentsOf({ timeline: 1, from: 0n, to: BigInt(MIB), segmentSize: MIB })).toEqual([
    '000000010000000000000000',
  ]);
});

test('a history file as PostgreSQL writes it - each timeline with where it began', () => {
  const text =
    '1\t0/3000000\tno recovery target specified\n\n# a comment\n3\t16/B374D848\tbefore 2025-10-27 14:00:00+00\n';
  expect(parseHistory(text, 7)).toEqual([
    { timeline: 1, begin: 0n },
    { timeline: 3, begin: parseLsn('0/3000000') },
    { timeline: 7, begin: parseLsn('16/B374D848') },
  ]);
  expect(parseHistory('', 1)).toEqual([{ timeline: 1, begin: 0n }]);
});

/** An archive of files whose content does not matter, but for histories. */
async function archive(
  names: Readonly<Record<string, string>>,
): Promise<ReturnType<typeof memoryRepository>> {
  const repository = memoryRepository();
  for (const [name, content] of Object.entries(names))
    await putLogFile(repository, { ...owner, name, bytes: Buffer.from(content), level: null });
  return repository;
}

const names = {
  '000000010000000000000002': '',
  '000000010000000000000003': '',
  '000000010000000000000004.partial': '',
  '000000010000000000000002.00000028.backup': '',
  '00000002.history': '1\t0/480000\tno recovery target specified\n',
  '000000020000000000000004': '',
  '000000020000000000000006': '',
};

test('the log along the newest timeline - its own name for the segment it begins in, its parent’s before', async () => {
  const view = await openLogView(
    await archive(names),
    { owner, segmentSize: MIB, timeline: null, backupTimelines: [1] },
    signal,
  );
  const at = (segment: number): bigint => BigInt(segment * MIB);
  expect(view.timeline).toBe(2);
  expect([2, 3, 4, 5, 6].map(segment => view.nameAt(at(segment)))).toEqual([
    '000000010000000000000002',
    '000000010000000000000003',
    '000000020000000000000004',
    null,
    '000000020000000000000006',
  ]);
  expect(view.nameAt(at(3) + 77n)).toBe('000000010000000000000003');
  expect(view.firstMissing(at(2) + 5n)).toBe(at(5));
  expect(view.expectedName(at(5))).toBe('000000020000000000000005');
  expect(view.end).toBe(at(7));
  expect(view.historyFiles).toEqual(['00000002.history']);
});

test('the log along the older timeline - a partial segment is its end', async () => {
  const view = await openLogView(
    await archive(names),
    { owner, segmentSize: MIB, timeline: 1, backupTimelines: [1] },
    signal,
  );
  expect(view.nameAt(BigInt(4 * MIB))).toBe('000000010000000000000004.partial');
  expect(view.firstMissing(BigInt(2 * MIB))).toBe(BigInt(5 * MIB));
  // A server that goes on from there must not take the number of a timeline that there has been.
  expect(view.historyFiles).toEqual(['00000002.history']);
});

/** The pieces of one segment, by where they begin and end; only the first one's content matters. */
async function pieces(
  repository: Awaited<ReturnType<typeof archive>>,
  segment: string,
  ranges: readonly (readonly [number, number])[],
): Promise<void> {
  const bytes = new Uint8Array(MIB);
  new DataView(bytes.buffer).setUint32(32, MIB, true);
  for (const [from, to] of ranges)
    await putLogPart(repository, { ...owner, segment, from, bytes: bytes.subarray(from, to), level: null });
}

test('pieces of a segment - read like a partial one; the log goes no further, unless they are all of it', async () => {
  const at = (segment: number): bigint => BigInt(segment * MIB);
  const repository = await archive({ '000000010000000000000002': '', '000000010000000000000005': '' });
  const open = () =>
    openLogView(repository, { owner, segmentSize: MIB, timeline: null, backupTimelines: [1] }, signal);
  await pieces(repository, '000000010000000000000003', [[100, 200]]);
  let view = await open();
  // Nothing of it begins at 0.
  expect([view.nameAt(at(3)), view.reachAt(at(3)), view.firstMissing(at(2))]).toEqual([null, null, at(3)]);
  await pieces(repository, '000000010000000000000003', [[0, 100]]);
  await pieces(repository, '000000010000000000000004', [[0, MIB]]);
  view = await open();
  expect(view.nameAt(at(3))).toBe('000000010000000000000003.partial');
  expect(view.reachAt(at(3) + 7n)).toBe(at(3) + 200n);
  expect((await view.read(at(3))).length).toBe(MIB);
  // What follows an incomplete segment lies behind a hole.
  expect(view.firstMissing(at(2))).toBe(at(4));
  expect([view.reachAt(at(4)), view.firstMissing(at(4)), view.end]).toEqual([at(5), at(6), at(6)]);
  await pieces(repository, '000000010000000000000006', [[0, 40]]);
  view = await open();
  expect([view.firstMissing(at(4)), view.end]).toEqual([at(7), at(7)]);
  // The whole segment wins.
  await putLogFile(repository, {
    ...owner,
    name: '000000010000000000000003',
    bytes: new Uint8Array(9),
    level: null,
  });
  view = await open();
  expect([view.nameAt(at(3)), view.firstMissing(at(2))]).toEqual(['000000010000000000000003', at(7)]);
});

test('a timeline without its history - LOG_NOT_FOUND, with its name', async () => {
  const repository = await archive({ '000000030000000000000004': '' });
  await expect(
    openLogView(repository, { owner, segmentSize: MIB, timeline: null, backupTimelines: [1] }, signal),
  ).rejects.toMatchObject({
    code: 'LOG_NOT_FOUND',
    hint: expect.stringContaining('00000003.history'),
  });
});

test('waiting for log - ends when all is there; what is missing in time is named', async () => {
  const repository = await archive({ '000000010000000000000002': '' });
  const wanted = { owner, names: ['000000010000000000000002', '000000010000000000000003'] };
  expect(await waitForLog(repository, { ...wanted, timeoutMs: 0 }, signal)).toEqual([
    '000000010000000000000003',
  ]);
  const waiting = waitForLog(repository, { ...wanted, timeoutMs: 20_000 }, signal);
  await putLogFile(repository, {
    ...owner,
    name: '000000010000000000000003',
    bytes: new Uint8Array(9),
    level: null,
  });
  expect(await waiting).toEqual([]);
  await expect(
    waitForLog(
      repository,
      { owner, names: ['000000010000000000000009'], timeoutMs: 20_000 },
      AbortSignal.timeout(20),
    ),
  ).rejects.toThrow();
});
