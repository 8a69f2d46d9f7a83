import { describe, expect, test } from 'vitest';
import { resolveTarget } from '../../../src/operations/restore/resolve-target.ts';
import {
  abort,
  abortWithFile,
  commit,
  endPrepared,
  prepare,
  restorePoint,
  work,
} from '../../engines/postgres/transaction-records.ts';
import type { RecordToBuild } from '../../engines/postgres/wal-builder.ts';
import { seeded } from '../../support/seeded.ts';
import { BEGIN, logOf, MIB, START } from './built-log.ts';

/**
 * Work that fills about so many segments. Where a segment ends within a header, its summary does not tell what follows, and it is read.
 */
const fill = (xid: number, segments: number): RecordToBuild[] =>
  Array.from({ length: Math.round(segments * 512) }, () => work(xid));

describe('the ends of transactions with the summaries of segments', () => {
  test('ends, prepared ones and restore points at random, many across two segments - as without summaries', async () => {
    for (let seed = 1; seed <= 2; seed += 1) {
      const random = seeded(seed);
      const records: RecordToBuild[] = [];
      let timeUs = BEGIN;
      for (let xid = 700; records.length < 3000; xid += 1) {
        records.push(...fill(xid, random(150) / 100));
        timeUs += BigInt(random(3_000_000));
        const kinds = [commit, commit, abort, abortWithFile, prepare];
        const kind = random(7);
        if (kind < kinds.length) records.push(kinds[kind]!(xid, timeUs));
        else if (kind === 5) records.push(restorePoint(`point ${xid}`, timeUs));
        else records.push(prepare(xid, timeUs), ...fill(xid + 1, 1), endPrepared(xid, timeUs + 1n, 'commit'));
      }
      const plain = await logOf(records, false);
      const quick = await logOf(records, true);
      for (let at = START; at < plain.to; at += BigInt(MIB)) {
        expect(await quick.log.inSegment(at)).toEqual(await plain.log.inSegment(at));
        expect(await quick.log.restorePointsIn(at)).toEqual(await plain.log.restorePointsIn(at));
      }
      for (let step = 0; step < 10; step += 1) {
        const request = { kind: 'time', timeUs: BEGIN + (BigInt(step) * (timeUs - BEGIN)) / 12n } as const;
        const options = { securedUs: null, floor: START };
        const [found, expected] = await Promise.all([
          resolveTarget((await logOf(records, true)).log, request, options),
          resolveTarget(plain.log, request, options),
        ]);
        expect(found, `seed ${seed}, step ${step}`).toEqual(expected);
      }
    }
  });

  test('a commit that goes on in the next segment - is listed where it begins', async () => {
    const records = Array.from({ length: 60_000 }, (_, index) => commit(700 + index, BEGIN + BigInt(index)));
    for (const summarised of [false, true]) {
      const { log, to, built } = await logOf(records, summarised);
      const found: bigint[] = [];
      for (let at = START; at < to; at += BigInt(MIB)) {
        const listed = (await log.inSegment(at)).map(({ lsn }) => lsn);
        expect(listed.every(lsn => lsn >= at && lsn < at + BigInt(MIB))).toBe(true);
        found.push(...listed);
      }
      expect(found).toEqual(built.map(({ lsn }) => lsn));
    }
  });

  test('a transaction that fills segments - those in its middle are not read', async () => {
    const records = [
      abort(698, BEGIN),
      abort(699, BEGIN),
      commit(700, BEGIN),
      ...fill(701, 6),
      commit(701, BEGIN + 5_000_000n),
      ...fill(702, 1),
      commit(702, BEGIN + 9_000_000n),
      ...fill(703, 1),
    ];
    const { log, read } = await logOf(records, true);
    const request = { kind: 'time', timeUs: BEGIN + 1_000_000n } as const;
    const resolved = await resolveTarget(log, request, { securedUs: null, floor: START });
    expect(resolved).toMatchObject({ lastKept: { xid: 700 }, firstDropped: { xid: 701 } });
    for (let segment = 2; segment < 5; segment += 1)
      expect(read.has(START + BigInt(segment * MIB)), `segment ${segment}`).toBe(false);
  });
});
