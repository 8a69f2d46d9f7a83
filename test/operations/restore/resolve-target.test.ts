import { describe, expect, test } from 'vitest';
import { commitOfIncident } from '../../../src/operations/restore/incident-target.ts';
import { type ResolveOptions, resolveTarget } from '../../../src/operations/restore/resolve-target.ts';
import {
  abort,
  abortWithFile,
  commit,
  endPrepared,
  prepare,
  removeDatabase,
  restorePoint,
  work,
} from '../../engines/postgres/transaction-records.ts';
import type { BuiltRecord, RecordToBuild } from '../../engines/postgres/wal-builder.ts';
import { BEGIN, logOf, MIB, START } from '../log/built-log.ts';

const none: ResolveOptions = { securedUs: null, floor: START };

/** Where the recovery for a request stops, as the record it stops in front of; `end` for all of the log. */
async function stopsBefore(
  records: readonly RecordToBuild[],
  request: Parameters<typeof resolveTarget>[1],
  options: ResolveOptions = none,
): Promise<number | 'end' | null> {
  const made = await logOf(records);
  const resolved = await resolveTarget(made.log, request, options);
  if (resolved === null) return null;
  const { lsn } = resolved;
  return lsn === null ? 'end' : made.built.findIndex((record: BuiltRecord) => record.lsn >= lsn);
}

const xid = (number: number, after = false) => ({ kind: 'xid', xid: number, after }) as const;
const tick = (count: number): bigint => BEGIN + BigInt(count);

describe('the work of a transaction that is dropped', () => {
  test('nothing else ended in between - is not replayed first', async () => {
    const records = [commit(700, tick(1)), work(701), work(701), commit(701, tick(2)), commit(702, tick(3))];
    expect(await stopsBefore(records, xid(701))).toBe(1);
    expect(await stopsBefore(records, { kind: 'time', timeUs: tick(1) })).toBe(1);
  });

  test('another commit in between - that is kept', async () => {
    const records = [work(701), commit(702, tick(1)), work(701), commit(701, tick(2)), work(703)];
    expect(await stopsBefore(records, xid(701))).toBe(2);
  });

  test('a rollback in between - only one that leaves files is kept', async () => {
    const tail = [work(701), commit(701, tick(3)), work(705)];
    expect(await stopsBefore([commit(700, tick(1)), work(701), abort(702, tick(2)), ...tail], xid(701))).toBe(
      1,
    );
    expect(
      await stopsBefore([commit(700, tick(1)), work(701), abortWithFile(702, tick(2)), ...tail], xid(701)),
    ).toBe(3);
  });

  test('one prepared in between, and the end of one - both are kept', async () => {
    const tail = [work(701), commit(701, tick(9)), work(705)];
    expect(
      await stopsBefore([commit(700, tick(1)), work(701), prepare(702, tick(2)), ...tail], xid(701)),
    ).toBe(3);
    for (const outcome of ['commit', 'abort'] as const) {
      const records = [prepare(702, tick(1)), work(701), endPrepared(702, tick(2), outcome), ...tail];
      expect(await stopsBefore(records, xid(701)), outcome).toBe(3);
    }
  });

  test('one prepared behind the time that is asked for - is dropped', async () => {
    const records = [commit(700, tick(1)), prepare(702, tick(5)), commit(701, tick(9)), work(703)];
    expect(await stopsBefore(records, { kind: 'time', timeUs: tick(3) })).toBe(1);
    expect(await stopsBefore(records, { kind: 'time', timeUs: tick(6) })).toBe(2);
  });
});

describe('the files of a database', () => {
  test('removed before the commit - the recovery stops before both', async () => {
    const records = [commit(700, tick(1)), removeDatabase(701), commit(701, tick(2)), commit(702, tick(3))];
    expect(await stopsBefore(records, xid(701))).toBe(1);
    expect(await stopsBefore([...records, work(703)], xid(702))).toBe(3);
  });

  test('removed outside a transaction, as by ALTER DATABASE … SET TABLESPACE - nothing else is dropped for it', async () => {
    const moved = [commit(700, tick(1)), removeDatabase(0), commit(701, tick(2)), commit(702, tick(3))];
    expect(await stopsBefore([...moved, work(703)], xid(702))).toBe(3);
    expect(await stopsBefore([...moved, work(703)], { kind: 'time', timeUs: tick(2) })).toBe(3);
  });
});

describe('what a target is beside', () => {
  test('commits a microsecond apart - each time its own', async () => {
    const records = [commit(700, tick(1)), commit(701, tick(2)), commit(702, tick(3)), work(703)];
    const { log } = await logOf(records);
    for (const [time, kept, dropped] of [
      [1, 700, 701],
      [2, 701, 702],
    ] as const) {
      const resolved = await resolveTarget(log, { kind: 'time', timeUs: tick(time) }, none);
      expect([resolved?.lastKept?.xid, resolved?.firstDropped?.xid]).toEqual([kept, dropped]);
    }
  });

  test('rollbacks - are neither the last kept nor the first dropped', async () => {
    const records = [
      commit(700, tick(1)),
      abort(701, tick(2)),
      abort(702, tick(4)),
      commit(703, tick(5)),
      work(704),
    ];
    const { log } = await logOf(records);
    const resolved = await resolveTarget(log, { kind: 'time', timeUs: tick(3) }, none);
    expect([resolved?.lastKept?.xid, resolved?.firstDropped?.xid]).toEqual([700, 703]);
  });
});

describe('a transaction', () => {
  test('rolled back, only prepared, not there - refused, each for its reason', async () => {
    const { log } = await logOf([
      abort(701, tick(1)),
      prepare(702, tick(2)),
      commit(703, tick(3)),
      work(704),
    ]);
    const refused = (number: number) => expect(resolveTarget(log, xid(number), none)).rejects;
    await refused(701).toMatchObject({
      code: 'TARGET_UNREACHABLE',
      message: expect.stringContaining('rolled back'),
    });
    await refused(702).toMatchObject({
      code: 'TARGET_UNREACHABLE',
      message: expect.stringMatching(/prepared as 'gx'.*neither/),
    });
    await refused(999).toMatchObject({ code: 'LOG_NOT_FOUND' });
  });

  test('of an incident on a timeline that was left - one of its number behind that is another', async () => {
    const { log, view, repository, built } = await logOf([
      commit(700, tick(1)),
      work(701),
      commit(701, tick(2)),
      commit(702, tick(3)),
      work(703),
    ]);
    const left = built[2]!.lsn;
    const chain = [
      { timeline: 1, begin: 0n },
      { timeline: 2, begin: left },
    ];
    const incident = (number: number) => ({
      ...({ kind: 'incident', id: 'a1', xid: number, timeline: 1, lsn: null, found: '' } as const),
      systemIdentifier: view.owner.systemIdentifier,
    });
    const commitOf = (number: number) =>
      commitOfIncident(
        { repository, view: { ...view, chain } },
        incident(number),
        new AbortController().signal,
      );
    await expect(resolveTarget(log, await commitOf(701), none)).rejects.toMatchObject({
      code: 'LOG_NOT_FOUND',
    });
    expect(await resolveTarget(log, await commitOf(700), none)).toMatchObject({ firstDropped: { xid: 700 } });
  });

  test('before the end of the backup - an older backup is needed', async () => {
    const records = [commit(700, tick(1)), commit(701, tick(2)), work(702)];
    const { built } = await logOf(records);
    expect(await stopsBefore(records, xid(700), { ...none, floor: built[1]!.lsn })).toBeNull();
    expect(await stopsBefore(records, xid(701), { ...none, floor: built[1]!.lsn })).toBe(1);
  });
});

describe('the end of the log', () => {
  const records = [commit(700, tick(1)), work(701), commit(701, tick(2))];

  test('after the last transaction, where no record follows - all of the log', async () => {
    expect(await stopsBefore(records, xid(701, true))).toBe('end');
    expect(await stopsBefore([...records, work(702)], xid(701, true))).toBe(3);
  });

  test('a position - taken as it is; at the very end all of the log, behind it refused', async () => {
    const { log, built } = await logOf(records);
    const position = (lsn: bigint) => resolveTarget(log, { kind: 'lsn', lsn }, none);
    expect((await position(built[1]!.lsn + 8n))?.lsn).toBe(built[1]!.lsn + 8n);
    expect((await position(built[2]!.endLsn))?.lsn).toBeNull();
    await expect(position(built[2]!.endLsn + 8n)).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    expect((await position(START + BigInt(MIB)))?.lsn).toBe(START + BigInt(MIB));
  });
});

describe('a restore point', () => {
  test('the last one of its name - what was committed before it is kept', async () => {
    const records = [
      restorePoint('evening', tick(1)),
      commit(700, tick(2)),
      work(701),
      restorePoint('evening', tick(3)),
      commit(701, tick(4)),
      work(702),
    ];
    const { log, built } = await logOf(records);
    const resolved = await resolveTarget(log, { kind: 'restore point', name: 'evening' }, none);
    expect(resolved).toMatchObject({
      lsn: built[1]!.endLsn,
      lastKept: { xid: 700 },
      firstDropped: { xid: 701 },
    });
    expect(resolved?.found).toContain('UTC');
  });

  test('none of that name - refused with those there are', async () => {
    const { log } = await logOf([restorePoint('morning', tick(1)), commit(700, tick(2)), work(701)]);
    await expect(resolveTarget(log, { kind: 'restore point', name: 'evening' }, none)).rejects.toMatchObject({
      code: 'LOG_NOT_FOUND',
      hint: expect.stringContaining('morning'),
    });
  });
});
